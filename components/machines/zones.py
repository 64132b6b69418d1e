"""Where the cards are: the zones of each region that have them.

Owns: the table. Does not own: which zone a stack takes (`settings.stack`).
"""

from typing import Final

CARD_ZONES: Final = {
    # GoogleCloudPlatform's own list as of August 2026 (gcloud, in Cyclenerd/google-cloud-pricing-cost-calculator) and
    # SkyPilot's catalogue; they agree but for us-east1.
    "t4": {
        "asia-northeast1": "ac",
        "asia-northeast3": "bc",
        "asia-south1": "ab",
        "asia-southeast1": "abc",
        "europe-west1": "bcd",
        "europe-west2": "ab",
        "europe-west3": "b",
        "europe-west4": "abc",
        "northamerica-northeast1": "c",
        "us-central1": "abcf",
        "us-east1": "cd",
        "us-east4": "abc",
        "us-west1": "ab",
        "us-west4": "ab",
    },
    # SkyPilot's catalogue of 2026 (g2-standard-4).
    "l4": {
        "asia-northeast1": "abc",
        "asia-northeast3": "ab",
        "asia-south1": "abc",
        "asia-southeast1": "abc",
        "europe-west1": "bc",
        "europe-west2": "ab",
        "europe-west3": "ab",
        "europe-west4": "abc",
        "northamerica-northeast1": "bc",
        "us-central1": "abc",
        "us-east1": "bcd",
        "us-east4": "ac",
        "us-west1": "abc",
        "us-west4": "ac",
    },
}
"""Card -> region -> last letters of its zones."""


def zones(gpu: str, region: str) -> tuple[str, ...]:
    """The region's zones with this card, `-b` first where it is one of them: the stack's usual zone."""
    letters = CARD_ZONES[gpu].get(region, "")
    return tuple(f"{region}-{letter}" for letter in sorted(letters, key=lambda letter: (letter != "b", letter)))
