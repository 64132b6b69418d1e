"""Chat templates for models whose own has no tools.

Owns: the text, which both engines get as it is. Does not own: which model takes one (`catalogue`).

One line and no single quote: it stands in a systemd unit and in command lines.
"""

from typing import Final

QWEN_TOOLS: Final = "".join((
    # Only tools are new here; the rest is what Qwen2.5-VL's own template writes.
    '{%- set tail = namespace(text="") -%}{%- if tools -%}',
    '{%- set tail.text = "\\n\\n# Tools\\n\\nYou may call one or more functions to assist with the user query." -%}',
    '{%- set tail.text = tail.text + "\\n\\nYou are provided with function signatures within <tools></tools>" -%}',
    '{%- set tail.text = tail.text + " XML tags:\\n<tools>" -%}',
    '{%- for tool in tools -%}{%- set tail.text = tail.text + "\\n" + (tool | tojson) -%}{%- endfor -%}',
    '{%- set tail.text = tail.text + "\\n</tools>\\n\\nFor each function call, return a json object " -%}',
    '{%- set tail.text = tail.text + "with function name and arguments within <tool_call></tool_call> " -%}',
    '{%- set tail.text = tail.text + "XML tags:\\n<tool_call>\\n" -%}',
    '{%- set tail.text = tail.text + "{\\"name\\": <function-name>, \\"arguments\\": <args-json-object>}" -%}',
    '{%- set tail.text = tail.text + "\\n</tool_call>" -%}{%- endif -%}',
    '{%- for message in messages -%}',
    '{%- if loop.first and message.role != "system" -%}',
    '<|im_start|>system{{ "\\n" }}You are a helpful assistant.{{ tail.text }}<|im_end|>{{ "\\n" }}{%- endif -%}',
    # A content is a text or a list of parts, of which some are pictures.
    '{%- set said = namespace(text="") -%}{%- if message.content is string -%}',
    # llama.cpp looks whether an empty list is walked, and else joins the parts of every content with newlines.
    '{%- set said.text = message.content -%}{%- elif message.content is defined and message.content is not none -%}',
    '{%- for part in message.content -%}',
    '{%- if "text" in part -%}{%- set said.text = said.text + part.text -%}{%- else -%}',
    '{%- set said.text = said.text + "<|vision_start|><|image_pad|><|vision_end|>" -%}',
    '{%- endif -%}{%- endfor -%}{%- endif -%}',
    '{%- if message.role == "tool" -%}',
    # Answers of several tools stand in one turn.
    '{%- if loop.first or messages[loop.index0 - 1].role != "tool" -%}<|im_start|>user{%- endif -%}',
    '{{ "\\n" }}<tool_response>{{ "\\n" }}{{ said.text }}{{ "\\n" }}</tool_response>',
    '{%- if loop.last or messages[loop.index0 + 1].role != "tool" -%}<|im_end|>{{ "\\n" }}{%- endif -%}',
    '{%- else -%}<|im_start|>{{ message.role }}{{ "\\n" }}{{ said.text }}',
    '{%- if loop.first and message.role == "system" -%}{{ tail.text }}{%- endif -%}',
    '{%- if message.tool_calls -%}{%- for call in message.tool_calls -%}{%- set made = call.function or call -%}',
    '{%- if said.text or not loop.first -%}{{ "\\n" }}{%- endif -%}',
    '<tool_call>{{ "\\n" }}{"name": "{{ made.name }}", "arguments": ',
    '{%- if made.arguments is string -%}{{ " " + made.arguments }}{%- else -%}{{ " " + (made.arguments | tojson) }}',
    '{%- endif -%}{{ "}\\n" }}</tool_call>{%- endfor -%}{%- endif -%}<|im_end|>{{ "\\n" }}{%- endif -%}',
    '{%- endfor -%}{%- if add_generation_prompt -%}<|im_start|>assistant{{ "\\n" }}{%- endif -%}',
))  # fmt: skip
"""Of Qwen2.5-VL. Its own has no tools: both engines would answer 200 and never tell the model of them."""
