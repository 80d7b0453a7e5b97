"""The `bertlab` command: verbs, help, and errors that a user can read."""

from __future__ import annotations

import difflib
import errno
import importlib
import linecache
import os
import sys
import traceback
from pathlib import Path

import bertlab

#: Each verb: what it does, in one line, and the module whose `run(args)` does it (imported when it is needed).
VERBS = {
    "corpus": ("raw text → sentences → vocabulary → token store, to pretrain on", "bertlab.cli_corpus"),
    "find-lr": ("train a few steps at ever higher rates, and say which to begin with", "bertlab.cli_find_lr"),
    "plan": ("show what a fit would do: what trains when, rates, memory, time", "bertlab.cli_plan"),
    "fit": ("train, keep the best checkpoint, test it", "bertlab.cli_lightning"),
    "validate": ("evaluate a checkpoint on the validation split", "bertlab.cli_lightning"),
    "test": ("evaluate a checkpoint on the test split", "bertlab.cli_lightning"),
    "predict": ("write the predictions of a checkpoint as Parquet", "bertlab.cli_lightning"),
    "average": ("write a checkpoint with the mean of the weights of several", "bertlab.cli_average"),
    "export": ("write a checkpoint as a Hugging Face folder", "bertlab.cli_export"),
}

#: Errors of files that are no fault of the program: no permission, no space left, a file where a folder is wanted.
REFUSED_BY_THE_MACHINE = {
    errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.ENOTDIR, errno.EISDIR,
}  # fmt: skip


def main(args: list[str] | None = None) -> None:
    """Run a `bertlab` command.

    Args:
        args: the command line without the program's name; that of this process, if not given.

    Raises:
        SystemExit: 0 after help, 2 for a command line or configuration that cannot be read, 1 for any other
            error of the user's. Errors of the program itself are raised as they are.
    """
    args = sys.argv[1:] if args is None else args
    if not args or args[0] in {"-h", "--help"}:
        print(_help())
        return
    if args[0] == "--version":
        print(f"bertlab {bertlab.__version__}")
        return
    if args[0] not in VERBS:
        near = difflib.get_close_matches(args[0], VERBS, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        _fail(f"there is no {args[0]!r}: {hint}Verbs are {', '.join(VERBS)}; they come first", code=2)
    if str(Path.cwd()) not in sys.path:
        sys.path.append(
            str(Path.cwd())
        )  # a strategy of one's own, in the folder one works in, is found by its file
    try:
        importlib.import_module(VERBS[args[0]][1]).run(args)
    except Exception as error:
        word = _word_for_users(error)
        if word is None or os.environ.get("BERTLAB_DEBUG"):
            raise
        _fail(f"{word}\n(BERTLAB_DEBUG=1 shows where it was raised)", code=getattr(word, "exit_code", 1))


def _help() -> str:
    lines = "\n".join(f"  {verb:<10}{text}" for verb, (text, _) in VERBS.items())
    return (
        "usage: bertlab VERB --config FILE.yaml [--config OVERLAY.yaml …] [--any.key VALUE …]\n\n"
        f"{bertlab.__doc__}\n\nverbs:\n{lines}\n\n"
        "  bertlab VERB --help             all keys; of a class: --model.help CLASS, --data.help CLASS\n"
        "  bertlab VERB … --print_config   the configuration that would be run\n"
        "  bertlab fit … --ckpt_path last  go on with the newest run of that name\n"
        "  bertlab --version\n"
    )


def _word_for_users(error: BaseException | None) -> Exception | None:
    """The error that says something to the user: this one, or one that jsonargparse has wrapped; None: there is none.

    What a constructor raises, such as that of an encoder, comes back as an error of types that do not fit.
    """
    while isinstance(error, Exception):
        frame = traceback.extract_tb(error.__traceback__)[-1]
        if _is_meant_for_users(error, frame):
            return error
        error = error.__cause__ if Path(frame.filename).parent.name == "jsonargparse" else None
    return None


def _is_meant_for_users(error: Exception, frame: traceback.FrameSummary) -> bool:
    """Whether an error is bertlab's word to its user, rather than a fault in the program.

    It is if a `raise` of bertlab's own raised it, if Lightning says that the configuration is wrong, or if the machine
    does not let a file be read or written.
    """
    if type(error).__name__ == "MisconfigurationException":
        return True
    if isinstance(error, OSError) and error.errno in REFUSED_BY_THE_MACHINE:
        return True
    ours = Path(frame.filename).is_relative_to(Path(bertlab.__file__).parent)
    return ours and linecache.getline(frame.filename, frame.lineno or 0).lstrip().startswith("raise ")


def _fail(message: str, code: int) -> None:
    print(f"bertlab: error: {message}", file=sys.stderr)
    raise SystemExit(code)


if __name__ == "__main__":
    main()
