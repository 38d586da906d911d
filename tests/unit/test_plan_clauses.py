"""What the next request of a voice turn is: one test for each clause of the plan."""

from __future__ import annotations

from dataclasses import replace

from livekit.plugins.assistants.ledger import Fates, Held, Ledger, OpenRun, fates_of, merge_order
from livekit.plugins.assistants.matching import Policy
from livekit.plugins.assistants.plan import (
    HIDDEN_AT_MOST,
    NewRun,
    Scratch,
    Submit,
    after_outputs_taken,
    after_run_created,
    fingerprint,
    plan,
    settle,
)
from livekit.plugins.assistants.snapshot import Answer, Entry, Role, Snapshot, Text, digest

THREAD = "thread_1"


def user(item: str, text: str | None = None) -> Entry:
    return entry(item, "user", text)


def agent(item: str, text: str | None = None, *, message: str | None = None, **more: bool) -> Entry:
    return entry(item, "assistant", text, message=message, **more)


def entry(
    item: str,
    role: Role,
    text: str | None,
    *,
    message: str | None = None,
    interrupted: bool = False,
) -> Entry:
    return Entry(
        item_id=item,
        role=role,
        parts=(Text(item if text is None else text),),
        interrupted=interrupted,
        thread_id=THREAD if message else None,
        message_ids=(message,) if message else (),
    )


def held(
    one: Entry, message: str, *, turn: int | None = 1, key: str = "k1", **more: object
) -> Held:
    bound = Held(
        message_id=message,
        role=one.role,
        digest=one.digest,
        item_id=one.item_id,
        turn=turn,
        view=1,
        run_key=key if turn is not None else None,
    )
    return replace(bound, **more)  # type: ignore[arg-type]


def reply(message: str, text: str, *, turn: int = 1, key: str = "k1", **more: object) -> Held:
    one = Held(
        message_id=message,
        role="assistant",
        digest=digest([Text(text)]),
        text=text,
        turn=turn,
        view=1,
        run_key=key,
        written=True,
    )
    return replace(one, **more)  # type: ignore[arg-type]


def ledger(*messages: Held, runs: tuple[OpenRun, ...] = (), **more: object) -> Ledger:
    one = Ledger(thread_id=THREAD, held=messages, runs=runs, fresh=False, in_use=True)
    return replace(one, **more)  # type: ignore[arg-type]


def shown(*entries: Entry, turn: int = 9, **more: object) -> Snapshot:
    one = Snapshot(turn=turn, view=1, session=1, entries=entries, has_instructions=True)
    return replace(one, **more)  # type: ignore[arg-type]


def new_run(snapshot: Snapshot, book: Ledger, fates: Fates | None = None, **policy: bool) -> NewRun:
    decided = plan(snapshot, book, fates, Policy(**policy))
    assert isinstance(decided, NewRun)
    return decided


def cut(key: str = "k1", turn: int = 1) -> OpenRun:
    return OpenRun(key=key, turn=turn, state="cut", run_id="run_1")


def waiting(*calls: str, key: str = "k1", turn: int = 1, **more: object) -> OpenRun:
    one = OpenRun(
        key=key,
        turn=turn,
        state="waiting",
        run_id="run_1",
        pending=calls,
        settings=fingerprint({}),
    )
    return replace(one, **more)  # type: ignore[arg-type]


U1, U2, U3 = user("u1"), user("u2"), user("u3")
R1 = agent("r1", "hello there", message="m2")


# what is there stays, what is new is appended -----------------------------------------------------


def test_a_first_turn_appends_what_the_context_holds() -> None:
    decided = new_run(shown(U1), ledger())
    assert decided.changes.messages == (U1,)
    assert decided == NewRun(changes=decided.changes)


def test_a_plain_turn_appends_the_user_message_alone() -> None:
    book = ledger(held(U1, "m1"), reply("m2", "hello there"))
    decided = new_run(shown(U1, R1, U2), book)
    assert decided.changes.messages == (U2,)
    assert decided.changes.edits == ()
    assert decided.changes.deletes == decided.excludes == ()


def test_a_reply_is_bound_by_its_stamp() -> None:
    book = ledger(held(U1, "m1"), reply("m2", "hello there"))
    decided = new_run(shown(U1, R1, U2), book)
    assert [one.item_id for one in decided.changes.held] == ["u1", "r1"]


def test_a_reply_without_stamp_is_bound_by_its_words() -> None:
    book = ledger(held(U1, "m1"), reply("m2", "hello there"))
    decided = new_run(shown(U1, agent("r1", "hello  there "), U2), book)
    assert decided.changes.messages == (U2,)
    assert decided.changes.held[1].item_id == "r1"


def test_an_interrupted_reply_without_stamp_is_bound_by_how_it_begins() -> None:
    book = ledger(held(U1, "m1"), reply("m2", "hello there"))
    decided = new_run(shown(U1, agent("r1", "hello", interrupted=True), U2), book)
    assert [(edit.message_id, edit.entry.text) for edit in decided.changes.edits] == [
        ("m2", "hello")
    ]


def test_said_without_a_model_is_appended() -> None:
    greeting = agent("s1", "Welcome!")
    decided = new_run(shown(greeting, U1), ledger())
    assert decided.changes.messages == (greeting, U1)


# what differs is edited ---------------------------------------------------------------------------


def test_an_adopted_transcript_is_edited_under_its_id() -> None:
    book = ledger(held(user("u1", "hello there"), "m1"))
    decided = new_run(shown(user("u1", "Hello, there!")), book)
    assert [edit.message_id for edit in decided.changes.edits] == ["m1"]
    assert decided.changes.messages == ()


def test_blanks_are_no_difference() -> None:
    book = ledger(held(user("u1", "hello  there\n"), "m1"))
    assert new_run(shown(user("u1", "hello there")), book).changes.none


def test_after_a_cut_the_reply_is_always_edited() -> None:
    """The server's text is often longer than what arrived."""
    book = ledger(held(U1, "m1"), reply("m2", "hello there", loose=True), runs=(cut(),))
    decided = new_run(shown(U1, R1, U2), book)
    assert [edit.message_id for edit in decided.changes.edits] == ["m2"]
    assert not decided.changes.held[1].loose


def test_the_full_text_is_kept_where_that_was_asked_for() -> None:
    book = ledger(held(U1, "m1"), reply("m2", "hello there", loose=True), runs=(cut(),))
    heard = agent("r1", "hello", message="m2", interrupted=True)
    assert new_run(shown(U1, heard, U2), book, full=True).changes.edits == ()


def test_several_messages_of_one_reply_become_one_when_edited() -> None:
    book = ledger(held(U1, "m1"), reply("m2", "one two", also=("m3",)))
    heard = agent("r1", "one", message="m2", interrupted=True)
    decided = new_run(shown(U1, heard, U2), book)
    assert [edit.message_id for edit in decided.changes.edits] == ["m2"]
    assert decided.changes.deletes == ("m3",)


def test_a_server_that_cannot_edit_gets_the_rest_again() -> None:
    book = ledger(held(U1, "m1"), reply("m2", "hello there"))
    heard = agent("r1", "hello", message="m2", interrupted=True)
    decided = new_run(shown(U1, heard, U2), book, extensions=False)
    assert decided.changes.deletes == ("m2",)
    assert decided.changes.messages == (heard, U2)


# what cannot be put in between is sent again ------------------------------------------------------


def test_a_late_insert_sends_what_follows_it_again() -> None:
    late = agent("s1", "meanwhile")
    book = ledger(held(U1, "m1"), held(U2, "m2"))
    decided = new_run(shown(U1, late, U2), book)
    assert decided.changes.messages == (late, U2)
    assert decided.changes.deletes == ("m2",)


def test_two_queued_replies_end_in_the_order_of_the_context() -> None:
    book = ledger(
        held(U1, "m1"),
        reply("m2", "one", turn=1),
        held(U2, "m3", turn=2, key="k2"),
        reply("m4", "two", turn=2, key="k2"),
    )
    one, two = agent("r1", "one", message="m2"), agent("r2", "two", message="m4")
    decided = new_run(shown(U1, U2, one, two, U3), book)
    assert decided.changes.messages == (one, two, U3)
    assert decided.changes.deletes == ("m2", "m4")


def test_base_messages_are_never_sent_again_nor_deleted() -> None:
    book = ledger(held(U1, "m1", turn=None), held(U2, "m2", turn=None))
    late = agent("s1", "meanwhile")
    decided = new_run(shown(U1, late, U2, U3), book)
    assert decided.changes.messages == (late, U3)
    assert decided.changes.deletes == ()


# what the snapshot lacks: the clauses -------------------------------------------------------------


def test_a_turn_that_had_not_ended_is_kept_and_hidden() -> None:
    book = ledger(held(U1, "m1"), reply("m2", "hello there"))
    decided = new_run(shown(U2, open_turns=frozenset({1})), book)
    assert decided.changes.deletes == ()
    assert decided.excludes == ("m1", "m2")


def test_a_discarded_speculation_is_deleted() -> None:
    book = ledger(held(U1, "m1"), reply("m2", "hello there"))
    decided = new_run(shown(U2), book, Fates(discarded=frozenset({1}), over=frozenset({1})))
    assert decided.changes.deletes == ("m1", "m2")


def test_a_speculation_known_to_be_discarded_does_not_wait_for_its_end() -> None:
    book = ledger(held(U1, "m1"))
    fates = Fates(discarded=frozenset({1}))
    assert new_run(shown(U2, open_turns=frozenset({1})), book, fates).changes.deletes == ("m1",)


def test_what_a_discarded_turn_brought_stays_if_it_was_committed() -> None:
    greeting = agent("s1", "Welcome!")
    book = ledger(held(greeting, "m0"), held(U1, "m1"), order={1: ("s1", "u1")})
    fates = fates_of([greeting], thread_id=THREAD, discarded=[1], over=[1], told=[1])
    decided = new_run(shown(U2), book, fates)
    assert decided.changes.deletes == ("m1",)
    assert decided.excludes == ("m0",)


def test_a_reply_of_which_nothing_was_heard_is_deleted() -> None:
    book = ledger(held(U1, "m1"), reply("m2", "hello there", loose=True), runs=(cut(),))
    fates = fates_of([U1], thread_id=THREAD, over=[1], told=[1])
    decided = new_run(shown(U1, U2), book, fates)
    assert decided.changes.deletes == ("m2",)
    assert decided.end_runs == (("k1", ("m1",)),)


def test_a_reply_that_the_session_heard_is_kept_hidden_and_cut_to_what_was_heard() -> None:
    """Interruption followed at once by a new turn, whose snapshot is older than the commit."""
    book = ledger(held(U1, "m1"), reply("m2", "hello there", loose=True), runs=(cut(),))
    heard = agent("r1", "hel", message="m2", interrupted=True)
    fates = fates_of([U1, heard], thread_id=THREAD, over=[1], told=[1])
    decided = new_run(shown(U1, U2, open_turns=frozenset({1})), book, fates)
    assert decided.changes.deletes == ()
    assert decided.excludes == ("m2",)
    assert [(edit.message_id, edit.entry.text) for edit in decided.changes.edits] == [("m2", "hel")]


def test_another_agents_turn_is_kept_and_hidden() -> None:
    book = ledger(held(U1, "m1", view=2), reply("m2", "hello there", view=2))
    decided = new_run(shown(U2), book)
    assert decided.changes.deletes == ()
    assert decided.excludes == ("m1", "m2")


def test_an_item_taken_out_behind_one_that_stays_is_deleted() -> None:
    book = ledger(
        held(U1, "m1", committed=True), held(U2, "m2", committed=True), order={1: ("u1", "u2")}
    )
    decided = new_run(shown(U1, U3), book)
    assert decided.changes.deletes == ("m2",)
    assert decided.changes.removed == {"u2"}


def test_before_means_the_contexts_order_not_the_threads() -> None:
    book = ledger(
        held(U2, "m2", committed=True), held(U1, "m1", committed=True), order={1: ("u1", "u2")}
    )
    decided = new_run(shown(U2, U3), book)
    assert decided.changes.deletes == ()
    assert decided.excludes == ("m1",)


def test_a_window_forgets_for_good() -> None:
    book = ledger(
        held(U1, "m1", committed=True), held(U2, "m2", committed=True), order={1: ("u1", "u2")}
    )
    decided = new_run(shown(U2, U3), book)
    assert decided.excludes == ("m1",)
    assert decided.changes.held[0].forgotten
    later = after_run_created(book, decided, shown(U2, U3), run=cut("k9", 9), message_ids=["m3"])
    again = new_run(shown(U3), replace(later, runs=()))
    assert again.changes.deletes == ()
    assert set(again.excludes) == {"m1", "m2"}


def test_without_a_session_a_later_message_of_the_turn_shows_that_it_was_committed() -> None:
    book = ledger(held(U1, "m1"), reply("m2", "hello there"), order={1: ("u1",)})
    decided = new_run(shown(R1, U2), book)
    assert decided.changes.deletes == ()
    assert decided.excludes == ("m1",)


def test_context_injected_for_one_turn_does_not_stay_where_the_session_tells() -> None:
    rag = user("x1", "a fact")
    book = ledger(held(rag, "m0"), held(U1, "m1"), reply("m2", "hello there"))
    fates = fates_of([U1, R1], thread_id=THREAD, over=[1], told=[1])
    decided = new_run(shown(U1, R1, U2), book, fates)
    assert decided.changes.deletes == ("m0",)


def test_what_nobody_committed_is_deleted() -> None:
    book = ledger(held(U1, "m1"), reply("m2", "hello there"))
    assert new_run(shown(U2), book).changes.deletes == ("m1", "m2")


def test_a_failed_attempts_text_is_deleted() -> None:
    book = ledger(held(U1, "m1", turn=9), reply("m2", "hel", turn=9, void=True), runs=(cut(),))
    decided = new_run(shown(U1), book)
    assert decided.changes.deletes == ("m2",)
    assert decided.changes.messages == ()


def test_the_base_is_shown_until_an_agent_had_it_and_lost_it() -> None:
    book = ledger(held(U1, "m1", turn=None))
    assert new_run(shown(U2), book).excludes == ()
    lost = replace(book, order={1: ("u1",)})
    decided = new_run(shown(U2), lost)
    assert decided.excludes == ("m1",)
    assert decided.changes.deletes == ()


# runs that may still be active --------------------------------------------------------------------


def test_a_cut_run_is_ended_with_everything_that_is_still_wanted() -> None:
    book = ledger(held(U1, "m1"), reply("m2", "hello there", loose=True), runs=(cut(),))
    assert new_run(shown(U1, R1, U2), book).end_runs == (("k1", ("m1", "m2")),)


def test_a_request_that_was_never_answered_leaves_nothing() -> None:
    book = ledger(runs=(OpenRun(key="k1", turn=1, state="sent"),))
    decided = new_run(shown(U1), book)
    assert decided.end_runs == (("k1", ()),)
    assert decided.changes.messages == (U1,)


def test_what_an_unanswered_request_may_have_deleted_is_sent_again() -> None:
    run = OpenRun(key="k2", turn=2, state="sent", deletes=frozenset({"m1"}))
    decided = new_run(shown(U1, U2), ledger(held(U1, "m1"), runs=(run,)))
    assert decided.changes.deletes == ("m1",)
    assert decided.changes.messages == (U1, U2)


# tools --------------------------------------------------------------------------------------------

ANSWERS = (
    Answer(call_id="c1", output="1", name="f", arguments="{}"),
    Answer(call_id="c2", output="2", name="g", arguments="{}"),
)


def asked(
    *entries: Entry, answers: tuple[Answer, ...] = ANSWERS, settings: dict[str, str] | None = None
) -> Snapshot:
    calls = frozenset(one.call_id for one in answers)
    return shown(*entries, answers=answers, calls=calls, settings=settings or {})


def test_outputs_of_all_calls_go_to_the_open_run_in_one_request() -> None:
    book = ledger(held(U1, "m1"), runs=(waiting("c1", "c2"),))
    decided = plan(asked(U1), book)
    assert isinstance(decided, Submit)
    assert decided.answers == ANSWERS


def test_words_before_the_calls_do_not_keep_the_run_from_going_on() -> None:
    book = ledger(held(U1, "m1"), reply("m2", "hello there"), runs=(waiting("c1", "c2"),))
    assert isinstance(plan(asked(U1, R1), book), Submit)


def test_a_blank_before_the_calls_does_not_either() -> None:
    book = ledger(held(U1, "m1"), reply("m2", "\n\n"), runs=(waiting("c1", "c2"),))
    assert isinstance(plan(asked(U1), book), Submit)


def test_a_subset_of_the_outputs_ends_the_run() -> None:
    book = ledger(held(U1, "m1"), runs=(waiting("c1", "c2"),))
    decided = new_run(asked(U1, U2, answers=ANSWERS[:1]), book)
    assert decided.end_runs == (("k1", ("m1",)),)
    assert decided.answers == ANSWERS[:1]


def test_a_placeholder_is_no_output() -> None:
    book = ledger(held(U1, "m1"), runs=(waiting("c1"),))
    decided = new_run(shown(U1), book)
    assert decided.end_runs == (("k1", ("m1",)),)
    assert decided.answers == ()


def test_anything_new_beside_the_outputs_makes_a_new_run() -> None:
    book = ledger(held(U1, "m1"), runs=(waiting("c1", "c2"),))
    for snapshot in (
        asked(U1, U2),
        asked(U1, settings={"instructions": "Be rude."}),
        asked(U1, settings={"tool_choice": "none"}),
        asked(user("u1", "Edited")),
    ):
        decided = new_run(snapshot, book)
        assert decided.answers == ANSWERS
        assert decided.end_runs[0][0] == "k1"


def test_a_forced_choice_is_over_after_the_first_turn() -> None:
    run = waiting("c1", "c2", tool_choice='"required"')
    snapshot = asked(U1, settings={"tool_choice": "auto"})
    book = ledger(held(U1, "m1"), runs=(run,))
    assert isinstance(plan(snapshot, book), Submit)
    assert isinstance(plan(snapshot, book, None, Policy(extensions=False)), NewRun)


def test_a_result_that_came_too_late_for_its_run_is_carried_with_its_name() -> None:
    decided = new_run(asked(U1, U2), ledger(held(U1, "m1")))
    assert decided.answers == ANSWERS
    assert decided.end_runs == ()


def test_a_result_is_carried_once() -> None:
    book = ledger(held(U1, "m1"), answered={"c1": 1, "c2": 1})
    assert new_run(asked(U1, U2), book).answers == ()


def test_a_call_that_left_the_context_is_hidden() -> None:
    book = ledger(held(U1, "m1"), answered={"c1": 1, "c2": 1})
    assert new_run(asked(U1, U2, answers=ANSWERS[1:]), book).excludes == ("c1",)


def test_the_run_goes_on_in_the_ledger_when_it_took_its_outputs() -> None:
    book = ledger(held(U1, "m1"), runs=(waiting("c1", "c2"),))
    snapshot = asked(U1)
    decided = plan(snapshot, book)
    assert isinstance(decided, Submit)
    after = after_outputs_taken(book, decided, snapshot)
    assert after.runs[0].state == "streaming"
    assert set(after.answered) == {"c1", "c2"}


# other conversations ------------------------------------------------------------------------------


def test_a_context_with_nothing_in_common_leaves_no_trace() -> None:
    judge = shown(user("j1"), has_instructions=False)
    assert isinstance(plan(judge, ledger(held(U1, "m1"))), Scratch)
    assert isinstance(plan(judge, ledger()), Scratch)


def test_a_context_with_anything_in_common_is_the_conversation() -> None:
    book = ledger(held(U1, "m1"))
    assert isinstance(plan(shown(U1, U2, has_instructions=False), book), NewRun)
    stamped = shown(agent("zz", message="m7"), U2, has_instructions=False)
    assert isinstance(plan(stamped, book), NewRun)


def test_without_a_session_the_first_context_is_the_conversation() -> None:
    assert isinstance(plan(shown(U1, has_instructions=False), ledger(in_use=False)), NewRun)


# hiding much --------------------------------------------------------------------------------------


def test_a_long_hidden_head_becomes_a_window() -> None:
    old = [held(user(f"o{n}"), f"m{n}", forgotten=True) for n in range(HIDDEN_AT_MOST + 1)]
    decided = new_run(shown(U1, U2), ledger(*old, held(U1, "x1")))
    assert decided.excludes == ()
    assert decided.last_messages == 2


# restored contexts --------------------------------------------------------------------------------


def base(one: Entry, message: str) -> Held:
    return held(one, message, turn=None, item_id=None)


def test_a_context_restored_with_new_ids_is_recognised_by_its_words() -> None:
    book = ledger(base(user("a", "hi"), "m1"), base(agent("b", "hello"), "m2"), fresh=True)
    decided = new_run(shown(user("n1", "hi"), agent("n2", "hello"), U1), book)
    assert decided.changes.messages == (U1,)


def test_saying_what_was_said_last_yesterday_is_new() -> None:
    book = ledger(
        base(agent("a", "Anything else?"), "m1"), base(user("b", "yes"), "m2"), fresh=True
    )
    decided = new_run(shown(user("n1", "yes")), book)
    assert [one.item_id for one in decided.changes.messages] == ["n1"]


def test_a_stamped_item_of_a_part_of_the_thread_that_was_not_listed_is_known() -> None:
    book = ledger(complete=False)
    decided = new_run(shown(agent("old", "before", message="m0"), U1), book)
    assert decided.changes.messages == (U1,)


# settling without a run ---------------------------------------------------------------------------


def test_settling_brings_what_no_turn_carried() -> None:
    book = ledger(held(U1, "m1"), reply("m2", "hello there"))
    bye = agent("s1", "Bye.")
    heard = agent("r1", "hello", message="m2", interrupted=True)
    changes = settle([U1, heard, bye], book, Fates(), Policy())
    assert changes.messages == (bye,)
    assert [edit.message_id for edit in changes.edits] == ["m2"]


def test_settling_does_not_bring_back_what_was_taken_out() -> None:
    book = ledger(held(U1, "m1"), removed=frozenset({"u2"}))
    assert settle([U1, U2], book, Fates(), Policy()).none


def test_settling_without_a_history_undoes_only_what_is_known_to_be_unsaid() -> None:
    book = ledger(held(U1, "m1"), reply("m2", "one"), reply("m3", "two", turn=2, key="k2"))
    fates = fates_of([U1], thread_id=THREAD, over=[1, 2], told=[1])
    assert settle(None, book, fates, Policy()).deletes == ("m2",)


# the order that contexts showed -------------------------------------------------------------------


def test_what_a_context_lacks_keeps_its_place_behind_its_old_neighbour() -> None:
    alive = frozenset("abcdx")
    assert merge_order("abc", "acd", alive) == tuple("abcd")
    assert merge_order("abc", "bcd", alive) == tuple("abcd")
    assert merge_order("abc", "axc", frozenset("acx")) == tuple("axc")
