"""The chat templates: one line that a unit, a command line and both engines take; and the lab reads it as it is."""

from collections.abc import Callable

import pytest

from components.models import templates
from components.models.catalogue import PRESETS
from lab.read import plan
from lab.read.images import value_of
from lab.read.stack import Stack


def test_a_template_is_one_line_that_nothing_expands() -> None:
    text = templates.QWEN_TOOLS
    for expanded in ("\n", "'", "$", "`"):
        assert expanded not in text, f"{expanded!r} has a meaning of its own in a unit or a command"
    assert text.count("{%-") == text.count("-%}")
    assert text.count("{{") == text.count("}}")
    for word in ("tools", "tool_calls", "<tool_response>", "<|image_pad|>", "add_generation_prompt", "<|im_end|>"):
        assert word in text


@pytest.mark.parametrize("opened", ["for", "if"])
def test_what_is_opened_is_closed(opened: str) -> None:
    assert templates.QWEN_TOOLS.count(f"{{%- {opened} ") == templates.QWEN_TOOLS.count(f"{{%- end{opened} -%}}")


def test_only_models_whose_own_has_no_tools_take_one() -> None:
    given = {preset for preset, model in PRESETS.items() if model.chat_template}
    assert given == {"qwen2.5-vl-7b", "qwen2.5-vl-3b"}


def test_the_lab_reads_it_as_the_unit_means_it(stack_of: Callable[..., Stack]) -> None:
    vm = plan.read(stack_of(lanes=["vm"])).vm
    assert vm
    assert value_of(vm.container.args, "--chat-template") == templates.QWEN_TOOLS
