"""Caddy's configuration as data: everything that happens to a request, and nothing of ours in its path.

Owns: the JSON that stock Caddy is started with. Does not own: the container around Caddy (`gateway.service`), the
tunnel (`gateway.tunnel`), the pilot's decisions (`gateway.pilot`).

A browser at `/` gets the console, a page that is a caller like every other (`console`).

A request's journey, with the file that each step stands in:

    1. A request arrives at the public listener (`config`) and gets an id, which log and lane see (`routes`).
    2. Its key is matched with the clients' (`routes`). Without a known key it ends here: 401 (`answers`).
       The client's class, and `X-Lane`, say which handlers are its own (`classes`); a client with a limit waits for its
       turn and comes in once more by a loopback listener (`turns`).
    3. Its path leads to the model, to a service at home, to the static list of models, or to 404 (`routes`).
    4. Method, encoding, length and size are checked before a lane can be blamed: 405, 415, 411, 413 (`routes`,
       `answers`). A body without a length is kept, and its request goes through the server once more (`lengths`).
    5. The size of its body chooses one of its class's proxy handlers: short text, long text, picture (`classes`,
       `walk`).
    6. The handler takes the first lane that its checks found up (`checks`), that did not just fail and that has a free
       slot (`walk`, `upstreams`), and removes every header that the lane does not need (`walk`). A connection lasts
       for one request where a balancer stands in front of several machines (`connections`). Home and the VM are up
       for a size only while the pilot doesn't say that they are sick, or later than another lane (`checks`,
       `pilot_routes`).
    7. The lane's answer goes back with `X-Served-By` and `X-Request-Id` (`routes`); one line is logged (`logging`), and
       knows the lane as soon as the answer begins (`begun`).

**Home up.** Step 6 takes home, the first of `lanes`. Caddy dials `home:80` through the tunnel's SOCKS5 listener, for
`HTTP_PROXY` names it and `NO_PROXY` leaves the VM out (`config.environment`). Traefik and vLLM answer.

**Home down.** The check of home fails within `CHECK_INTERVAL + CHECK_TIMEOUT` (`upstreams`); from then on step 6 skips
home and takes the next lane at once. A request that was sent before that fails with a transport error or with 502, 503
or 504: home is left alone for `FAIL_DURATION`, and the request, whose body is in memory up to `replay_limit_mib`, is
repeated on the next lane before its caller sees anything (`walk`). If home's packets vanish, nothing fails: the pilot
ends the tunnel's daemon (`gateway.pilot`), which breaks the hanging connection, and the same retry follows.

**Home answers 500.** The request may be at fault, so home is not left alone: the next request takes it as before. This
one is repeated on the lanes after home, by a mark that each attempt leaves in its header (`next_lane`), if its body is
in memory. The last lane's 500 goes back as it is, and so does that of a service that lives at home alone.

**Home's engine stuck, or failing every request.** Its check passes. The pilot sees that nothing moves, or that answers
are 500, asks for one token itself, and says no for home from then on; who hangs there is freed as above. Without the
pilot the check decides alone.

**All full.** No lane has a free slot, so step 6 takes the last place, the line (`line`). Its listener hands the request
to the pilot, which answers when it is the caller's turn, by age; then step 6 begins again. It ends after `wait_s` with
503 and `Retry-After` (`answers`). Who hangs up is gone from line and memory. While somebody waits for a slot, newcomers
stand in line first. Without the pilot, and for a service that lives at home alone (for `SERVICE_WAIT_S`), a place
behind it lets him look again ten times a second (`pause`); whose body is not kept looks every `TRY_INTERVAL`. The pilot
counts who waits, and wakes burst for them.

**Burst cold.** Caddy's check of burst asks the pilot and never burst (`checks`, `pilot_routes`), and the pilot says no:
step 6 skips burst, the VM takes what it answers sooner than burst could come up, the rest waits as above. Once the
pilot says yes, requests go through a loopback listener of the same Caddy, which alone adds TLS, Host and Google's ID
token (`burst_hop`).

**The VM alone, and too slow.** After all lanes stands a place that is none (`refusal`). Its check asks the pilot, and
it is up only for a size that nobody can begin to answer within `timeout_s`: then step 6 ends there, in 503 with the
reason. With the VM as the only lane there is no pilot; what its machine can't do is known from the start, and refused
in step 5 (`walk`).
"""
