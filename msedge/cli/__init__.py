"""The command line: one small module per command, loaded when the command is called."""

from __future__ import annotations

import atexit
import os
import sys

import click

from msedge.errors import MsedgeError, ToolError

# name: (module, attribute, one line of help)
_COMMANDS = {
    "run": ("run", "run", "Walk the whole road: train, convert, verify, bench, closing table."),
    "train": ("train", "train", "Train what a recipe describes (teacher and student where it has both)."),
    "export": ("export", "export", "Write a checkpoint folder as ONNX or MindIR."),
    "quantize": ("quantize", "quantize", "Plan INT8 or few-bit weights, and say what they cost."),
    "convert": ("convert", "convert", "Convert to a verified MindSpore Lite model (.ms)."),
    "verify": ("verify", "verify", "Compare the decisions of two models on images."),
    "bench": ("bench", "bench", "Measure latency, memory and size, models interleaved."),
    "predict": ("predict", "predict", "Classify images with a checkpoint, an ONNX file or a .ms."),
    "inspect": ("inspect", "inspect_", "Show what is inside a .ms or ONNX file."),
    "data": ("data", "data", "Make and audit image folders."),
    "calib": ("calib", "calib", "Choose and audit calibration images."),
    "models": ("models", "models", "List the architectures."),
    "lite": ("lite", "lite", "Install and probe the MindSpore Lite toolchain."),
    "doctor": ("doctor", "doctor", "Say what this machine has and what is missing."),
}


class _LazyGroup(click.Group):
    def list_commands(self, ctx):
        return list(_COMMANDS)

    def get_command(self, ctx, name):
        if name not in _COMMANDS:
            return None
        from importlib import import_module

        module, attribute, _ = _COMMANDS[name]
        command = getattr(import_module(f"msedge.cli.{module}"), attribute)
        if not any(p.name == "debug" for p in command.params):
            command.params.append(_debug_option())
        return command

    def format_commands(self, ctx, formatter):
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, _, text) in _COMMANDS.items()])

    def resolve_command(self, ctx, args):
        name = args[0]
        if name not in _COMMANDS and not name.startswith("-"):
            from msedge.recipe.build import suggest

            raise click.UsageError(f"there is no command '{name}': {suggest(name, _COMMANDS)}", ctx)
        return super().resolve_command(ctx, args)


def _debug_option() -> click.Option:
    return click.Option(
        ["--debug"], is_flag=True, expose_value=False, callback=_set_debug, help="Show tracebacks and tool logs."
    )


def _set_debug(ctx, param, value):
    if value:
        os.environ["MSEDGE_DEBUG"] = "1"


def _version(ctx, param, value):
    if value:
        from importlib.metadata import version

        click.echo(f"msedge {version('msedge')}")
        ctx.exit()


app = _LazyGroup(
    name="msedge",
    help="From a YAML recipe to a small, fast, verified MindSpore Lite model.",
    params=[
        _debug_option(),
        click.Option(["--version"], is_flag=True, is_eager=True, expose_value=False, callback=_version),
    ],
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)


def _say(text: str) -> None:
    click.echo(text, err=True)


def _run(args: list[str] | None) -> int:
    try:
        return app.main(args, prog_name="msedge", standalone_mode=False) or 0
    except MsedgeError as e:
        if debugging():
            import traceback

            traceback.print_exc()
            if isinstance(e, ToolError) and e.log:
                _say(e.log)
        _say(f"msedge: {e}")
        return e.exit_code
    except click.exceptions.Exit as e:
        return e.exit_code
    except click.ClickException as e:
        where = f" ({e.ctx.command_path} --help shows the usage)" if getattr(e, "ctx", None) else ""
        _say(f"msedge: {e.format_message()}{where}")
        return 2
    except (KeyboardInterrupt, click.Abort):
        _say("msedge: stopped")
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except Exception as e:
        if debugging():
            raise
        _say(f"msedge: internal error: {type(e).__name__}: {e} (a bug: run again with --debug and report what it prints)")
        return 3


def debugging() -> bool:
    return bool(os.environ.get("MSEDGE_DEBUG"))


def main(args: list[str] | None = None) -> None:
    """Entry point of the `msedge` command."""
    code = _run(args)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    if "mindspore" in sys.modules:
        # MindSpore's cells print hundreds of destructor errors while the interpreter is torn down: leave before that.
        atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(code)
    sys.exit(code)
