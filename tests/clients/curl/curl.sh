#!/bin/sh
# curl. Reads the names of scenarios, one a line, and prints what came of each as a line of JSON. OPENAI_BASE_URL,
# OPENAI_API_KEY and MODEL are as the SDKs have them, PICTURE is a PNG file.
set -u

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
key=$OPENAI_API_KEY
count='"List the numbers from 1 to 1000: 1, 2, 3, 4, 5, 6,"'
weather='{"type": "function", "function": {"name": "weather", "description": "The weather of a city.", "parameters":
    {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}}'

# PATH, and further options. By itself curl never repeats a request; with --retry it repeats a 503, after as long as
# Retry-After says.
call() {
    path=$1
    shift
    told=$(curl --silent --no-buffer --retry 2 --header "Authorization: Bearer $key" --output "$folder/answer" \
        --write-out '"status": %{http_code}, "first_s": %{time_starttransfer}' "$@" "$OPENAI_BASE_URL$path") ||
        told="\"error\": \"exit status $?\""
}

# CONTENT of the message, MAX_TOKENS, and further fields as JSON, into a file.
request() {
    printf '{"model": "%s", "messages": [{"role": "user", "content": %s}], "max_tokens": %s, "temperature": 0%s}' \
        "$MODEL" "$1" "$2" "${3-}" >"$folder/request"
}

post() {
    call /chat/completions --json "@$folder/request" "$@"
}

# The last value that the answer has under this name, a string or a number.
member() {
    value=$(grep --only-matching --extended-regexp "\"$1\": ?(\"(\\\\.|[^\"\\\\])*\"|[0-9]+)" "$folder/answer")
    value=$(printf '%s' "$value" | tail -n 1)
    printf '%s' "${value#*:}"
}

pieces() {
    grep --count '"content": *"' "$folder/answer"
}

# Adds a member that the answer has to what is printed.
tell() {
    found=$(member "$2")
    told="$told, \"$1\": ${found:-null}"
}

while read -r scenario; do
    : >"$folder/answer"
    case $scenario in
    models)
        call /models
        told="$told, \"models\": [$(member id)]"
        ;;
    plain)
        request "$count" 20
        post
        tell text content
        tell usage completion_tokens
        ;;
    stream)
        request "$count" 60 ', "stream": true'
        post
        tell text content
        told="$told, \"pieces\": $(pieces)"
        ;;
    usage)
        request "$count" 20 ', "stream": true, "stream_options": {"include_usage": true}'
        post
        tell usage completion_tokens
        ;;
    tools)
        request '"How is the weather in Oslo?"' 20 ", \"tools\": [$weather]"
        post
        tell text content
        ;;
    picture)
        url="data:image/png;base64,$(base64 --wrap 0 "$PICTURE")"
        request "[{\"type\": \"text\", \"text\": \"What is this?\"},
            {\"type\": \"image_url\", \"image_url\": {\"url\": \"$url\"}}]" 20
        post
        tell text content
        ;;
    wrong_key)
        key=sk-nobody-has-this-key-0123456789
        call /models
        key=$OPENAI_API_KEY
        ;;
    too_large)
        request "$count" 20
        head --bytes 31M /dev/zero | tr '\0' ' ' >>"$folder/request"
        post
        ;;
    abort)
        # curl ends when nobody reads its output any more, and with it the work on the model's server.
        request "$count" 1500 ', "stream": true'
        curl --silent --no-buffer --header "Authorization: Bearer $key" --json "@$folder/request" \
            "$OPENAI_BASE_URL/chat/completions" | head -n 10 >"$folder/answer"
        told="\"pieces\": $(pieces)"
        ;;
    impatient)
        request "$count" 20
        post --max-time 2
        ;;
    esac
    printf '{%s}\n' "$told"
done
