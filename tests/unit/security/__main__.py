"""`python -m tests.unit.security`: plants each mistake and prints which rule caught it, and in which words."""

import sys

from tests.unit.security import rules
from tests.unit.security.mistakes import MISTAKES, stack


def main() -> int:
    """Exit status: 0 where every mistake was caught by its rule, and the stack itself breaks none."""
    whole = stack()
    sound = rules.broken(whole)
    for name, said in sound.items():
        print(f"the stack itself: {name}: {said}")
    missed = 0
    for mistake in MISTAKES:
        said = rules.broken(mistake.plant(whole), mistake.caught_by).get(mistake.caught_by, "")
        missed += mistake.named not in said
        print(f"{'caught' if mistake.named in said else 'MISSED'}  {mistake.what}: {said[:120]}")
    print(f"{len(MISTAKES) - missed} of {len(MISTAKES)} planted mistakes caught, by {len(rules.RULES)} rules")
    return 1 if missed or sound else 0


if __name__ == "__main__":
    sys.exit(main())
