#!/bin/sh
# `sh examples/chat.sh`: one question by curl, the answer streamed as events. The variables are those of a client's .env.
set -eu
# The header comes from standard input: a command line is no place for a key, everybody on the machine can read it.
printf 'Authorization: Bearer %s\n' "$OPENAI_API_KEY" |
  curl --silent --show-error --fail-with-body --no-buffer --max-time 300 --header @- \
    --header 'Content-Type: application/json' "$OPENAI_BASE_URL/chat/completions" --data '{
      "model": "'"$OPENAI_MODEL"'",
      "messages": [{"role": "user", "content": "Say hello in one sentence."}],
      "max_tokens": 200,
      "stream": true
    }'
