"""The pilot: judges the lanes by what they produce, wakes burst in demand, and says where a first token comes sooner.

Owns: the lanes' state machine, the wake request, the Google ID token's file, the search for lanes that are slow or
sick, who is sooner, the line of those who wait for a slot, the rescue of requests that hang at home, and what `/status`
and `/metrics` show. Does not own: any request (Caddy proxies them all), the order of the lanes, the checks of home and
vm (Caddy's own). If the pilot dies, they serve on by their checks. Without burst among the lanes nothing is woken, and
no token is fetched.

It is shipped as a zip of at most 64 KiB into a stock Python image (`components.gateway.pilot_container`), so its
modules import the standard library and one another, by relative names, and nothing else. A reader begins with:

1. the decisions, pure functions without clock or I/O: `state` (the words) and `lane` (the steps), then what they go by:
   `engine` (the engines' metrics), `demand` (Caddy's); `expect` and `prompts` say who is sooner, `line` whose turn it
   is, `home` when its tunnel is dead; `prometheus` is the format of the numbers;
2. the pilot's settings: `environment`;
3. its parts, each of which asks one neighbour: `caddy`, `checks`, `lane_client`, `id_token`, `tunnel`; `net` and `log`
   serve them all;
4. the whole: `duties` and `pilot`, then `status` and `answers` for those who ask the pilot; `__main__` starts it.
"""
