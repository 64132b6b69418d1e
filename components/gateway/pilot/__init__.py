"""The pilot: knows burst's state, wakes it when demand calls, and tells Caddy where a first token comes sooner.

Owns: burst's state machine, the wake request, the Google ID token's file, the search for a slow burst, whether the VM
is sooner than waiting, the rescue of requests that hang in a dead tunnel, and what `/status` and `/metrics` show. Does
not own: any request (Caddy proxies them all), the order of the lanes, the health of home and vm (Caddy asks them
itself). If the pilot dies, they serve on. Without burst among the lanes nothing is woken, and no token is fetched.

It is shipped as a zip of at most 64 KiB into a stock Python image (`components.gateway.pilot_container`), so its
modules import the standard library and one another, by relative names, and nothing else. A reader begins with:

1. the decisions, pure functions without clock or I/O: `state` (the words) and `lane` (the steps), `demand`, `expect`,
   `engine`, `prompts`, `home`; `prometheus` is the format of their numbers;
2. the pilot's settings: `environment`;
3. its parts, each of which asks one neighbour: `caddy`, `checks`, `vm`, `lane_client`, `id_token`, `tunnel`; `net` and
   `log` serve them all;
4. the whole: `duties` and `pilot`, then `status` and `answers` for those who ask the pilot; `__main__` starts it.
"""
