#!/usr/bin/env bash
# Compares the stack STACK with what really is, and keeps one issue about it: opened when they differ, renewed while they
# do, closed when they don't. RUN is this run's address. Fails if it could not compare.
set -uo pipefail

export TITLE="Drift in the stack $STACK"

# Left out: a version of a secret, for to read it is to read the secret, and the budget, which lies with the account that
# pays. This account may do neither.
look() {
    pulumi preview --stack "$STACK" --refresh --expect-no-changes --diff --non-interactive --color never \
        --exclude '**SecretVersion::**' --exclude '**Budget::**' "$@" 2>&1
}

note=""
found=$(look)
code=$?
if [[ $code -ne 0 && $found == *unreachable* ]]; then
    note="Home is off, so what it has was not compared."
    found=$(look --exclude '**kubernetes:**')
    code=$?
fi

open=$(gh issue list --state open --limit 1000 --json number,title \
    --jq 'map(select(.title == env.TITLE)) | .[0].number // empty') || exit 1

if [[ $code -eq 0 ]]; then
    echo "No difference. $note"
    if [[ -n $open && -z $note ]]; then
        gh issue close "$open" --comment "No difference any more: $RUN"
    fi
    exit
fi

if [[ $found == *"but changes were proposed"* ]]; then
    told="What runs differs from what main declares. \`pulumi up --refresh\` brings it back; if the difference is meant, declare it."
    failed=0
else
    told="What runs could not be compared with what main declares."
    failed=1
fi
# GitHub takes 65,536 characters.
[[ ${#found} -gt 60000 ]] && found=${found: -60000}
body=$(printf '%s\n' "$told" "$note" "$RUN" "" "~~~~~~" "$found" "~~~~~~")
if [[ -n $open ]]; then
    gh issue edit "$open" --body "$body"
else
    gh issue create --title "$TITLE" --body "$body"
fi || exit 1
exit $failed
