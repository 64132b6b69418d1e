"""The line, step by step: whose turn it is, and how often somebody looks for a slot in vain."""

from components.gateway.pilot.line import HOLD_S, LANDING_S, REFUSED_S, Line, Place

LOOK_S = 0.01
HOME, VM = "home:80", "10.0.0.2:9931"
WAIT_S = 60.0


def place(since: float, came: float = 100, *, size: str = "short", **slots: int) -> Place:
    most = {HOME: slots.get("home", 2), VM: slots.get("vm", 0)}
    return Place(since, WAIT_S, came, size, {dial: n for dial, n in most.items() if n})


class Lanes:
    """A line before two lanes, looked at every `LOOK_S`."""

    def __init__(self, *places: Place) -> None:
        self.line, self.now = Line(), 100.0
        self.line.places |= set(places)
        self.taken = {HOME: 2, VM: 0}
        self.up = {HOME, VM}
        self.refused: set[str] = set()

    def look(self) -> list[Place]:
        self.now += LOOK_S
        return self.line.turns(
            self.now, self.taken, self.now, lambda dial, _: dial in self.up, lambda size: size in self.refused
        )

    def turns_in(self, seconds: float) -> list[Place]:
        return [place for _ in range(round(seconds / LOOK_S)) for place in self.look()]


def test_nobody_s_turn_comes_while_all_slots_are_taken() -> None:
    lanes = Lanes(place(90), place(91))
    assert not lanes.turns_in(2)
    assert lanes.line.seeking


def test_the_longest_wait_comes_first_whoever_came_back() -> None:
    first, second, third = place(90, came=99.9), place(91), place(92, came=99.8)
    lanes = Lanes(third, first, second)
    lanes.taken[HOME] = 0
    assert lanes.look() == [first, second]
    assert lanes.line.places == {third}


def test_a_slot_is_offered_once_while_its_caller_is_on_the_way() -> None:
    lanes = Lanes(*(place(90 + number) for number in range(5)))
    lanes.taken[HOME] = 1
    assert len(lanes.look()) == 1
    assert not lanes.look()
    lanes.taken[HOME] = 2
    assert not lanes.turns_in(1)


def test_a_slot_that_nobody_took_is_offered_again() -> None:
    lanes = Lanes(*(place(90 + number) for number in range(5)))
    lanes.taken[HOME] = 1
    assert len(lanes.turns_in(2 * LANDING_S)) == 2


def test_the_first_who_may_use_a_slot_gets_it() -> None:
    """The first waits for home alone; it is the VM that has a slot."""
    at_home, anywhere = place(90), place(91, vm=1)
    lanes = Lanes(at_home, anywhere)
    assert lanes.look() == [anywhere]
    assert lanes.line.seeking, "and home's next slot is nobody's else"


def test_a_walk_with_fewer_slots_gets_none_of_the_last() -> None:
    """A client in the background, whose handler has a lower limit on the same lane, does not stand in others' way."""
    background, other = place(90, home=1), place(91)
    lanes = Lanes(background, other)
    lanes.taken[HOME] = 1
    assert lanes.look() == [other]


def test_a_lane_that_takes_nothing_is_waited_for_without_shutting_the_gate() -> None:
    lanes = Lanes(place(99.5))
    lanes.up, lanes.taken[HOME] = {VM}, 0
    assert not lanes.turns_in(HOLD_S / 2)
    assert not lanes.line.seeking, "newcomers may take what he can't use"
    lanes.up.add(HOME)
    assert len(lanes.look()) == 1


def test_everybody_looks_for_himself_from_time_to_time() -> None:
    lanes = Lanes(place(99.99))
    assert not lanes.turns_in(HOLD_S - 0.1)
    assert len(lanes.turns_in(0.2)) == 1


def test_who_is_to_be_refused_is_let_go_soon() -> None:
    picture, text = place(99.99, size="picture"), place(99.99)
    lanes = Lanes(picture, text)
    lanes.refused.add("picture")
    assert lanes.turns_in(REFUSED_S + 0.1) == [picture]


def test_who_has_waited_long_enough_is_let_go_for_his_503_and_held_no_shorter_if_he_still_comes_back() -> None:
    over = place(100 - WAIT_S + 0.05, came=99)
    late = place(100 - WAIT_S - 5, came=99.99)
    lanes = Lanes(over, late)
    assert lanes.turns_in(0.2) == [over]


def test_a_lane_that_only_caddy_knows_to_be_down_is_tried_less_and_less() -> None:
    """Its slots look free, and whoever looks for one comes back."""
    lanes = Lanes()
    lanes.taken[HOME] = 0
    tries: list[int] = []
    for _ in range(4):
        tries.append(0)
        for _ in range(round(1 / LOOK_S)):
            lanes.line.places = {place(90 + number, came=lanes.now) for number in range(10)}
            tries[-1] += len(lanes.look())
    assert tries == sorted(tries, reverse=True)
    assert tries[-1] <= 10
    lanes.taken[HOME] = 1
    lanes.turns_in(0.6)
    lanes.taken[HOME] = 0
    lanes.line.places = {place(90)}
    assert len(lanes.look()) == 1, "what moves is tried at once"


def test_where_slots_are_free_too_often_somebody_is_let_go_ahead() -> None:
    """Requests so short that a slot is free a quarter of the time."""
    lanes = Lanes()
    ahead = 0
    for number in range(400):
        lanes.line.places = {place(90 + other, came=lanes.now) for other in range(10)}
        lanes.taken[HOME] = 1 if number % 4 == 0 else 2
        turns = lanes.look()
        ahead += len(turns) if lanes.taken[HOME] == 2 else 0
    assert ahead > 50
    lanes.taken[HOME] = 2
    for _ in range(1000):
        lanes.line.places = {place(90, came=lanes.now)}
        lanes.look()
    lanes.line.places = {place(90, came=lanes.now)}
    assert not lanes.turns_in(1), "and nobody any more where they are full"
