"""The generated part of docs/clients.md: where each client is told what, and how it behaves, as measured.

Owns: its form, and the settings' names. Does not own: the facts (`facts`), the page's other parts; `make golden` writes
the page.
"""

from typing import Final

from lab.read.stack import ROOT
from tests.clients.facts import FACTS
from tests.clients.programs import CLIENTS
from tests.clients.scenarios import LIMITS

PAGE: Final = ROOT / "docs" / "clients.md"
START, END = "<!-- clients: made by `make golden` -->", "<!-- clients end -->"
TOLD: Final = {
    "openai-python": ("`OpenAI(base_url=…, api_key=…)`", "`timeout=300`"),
    "openai-python-async": ("`AsyncOpenAI(base_url=…, api_key=…)`", "`timeout=300`"),
    "openai-node": ("`new OpenAI({ baseURL: …, apiKey: … })`", "`timeout: 300_000`; the 300 s are `fetch`'s"),
    "openai-go": (
        "`openai.NewClient(option.WithBaseURL(…), option.WithAPIKey(…))`",
        "`option.WithRequestTimeout(300 * time.Second)`",
    ),
    "openai-java": (
        "`OpenAIOkHttpClient.builder().baseUrl(…).apiKey(…).build()`",
        "`.timeout(Duration.ofSeconds(300))`",
    ),
    "langchain": ("`ChatOpenAI(base_url=…, api_key=…, model=…)`", "`timeout=300`"),
    "litellm": ('`completion(api_base=…, api_key=…, model="openai/…")`', "`timeout=300`"),
    "ai-sdk": (
        '`createOpenAICompatible({ name: "pilotlight", baseURL: …, apiKey: … })`',
        "`timeout: 300_000` of each call; the 300 s are `fetch`'s",
    ),
    "curl": ('`--header "Authorization: Bearer …"`', "`--max-time 300`; with `--retry 2` it comes again"),
}
"""By client: where base URL and key go, and what limits a request, with the 300 s of `gateway.timeout_s`."""


def generated() -> str:
    """A row for each client, and what a client can't do."""
    lines = [
        "| client | base URL and key | gives up without a byte after | limit set by | sends it at 503 | at its limit |",
        "|---|---|---|---|---|---|",
    ]
    clients = {client.name: client for client in CLIENTS}
    for fact in FACTS:
        client = clients[fact.client]
        title = f"{client.title} {client.version}".strip()
        where, limit = TOLD[fact.client]
        cells = (title, where, fact.patience, limit, _times(fact.tries), _times(fact.hurried))
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", *(f"{clients[one.client].title}, {one.scenario}: {one.why}" for one in LIMITS)]
    return "\n".join(lines)


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def page() -> str:
    """docs/clients.md with its generated part renewed."""
    before, _, rest = PAGE.read_text().partition(START)
    return f"{before}{START}\n{generated()}\n{END}{rest.partition(END)[2]}"
