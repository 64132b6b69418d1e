"""`python examples/chat.py "hello"`: one question, the answer streamed as it is generated."""

import sys

from endpoint import ask

if __name__ == "__main__":
    ask([{"role": "user", "content": " ".join(sys.argv[1:]) or "Say hello in one sentence."}], max_tokens=200)
