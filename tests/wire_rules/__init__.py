"""The rules of the wire as a checker of its own: it sees what clients see and knows no server code.

``objects`` says what every object looks like, ``streams`` in which order events come, ``traffic``
watches a server's answers and collects what breaks a rule.
"""
