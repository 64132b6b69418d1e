// Controlplane is a whole tailnet without Tailscale Inc.: the control server that Tailscale tests its own clients with,
// and a relay (DERP and STUN).
//
// Owns: which key joins, who hears of whom, the packet filter made from a policy (policy.go). Does not own: the network between the
// machines; "relay only" and "gone" are made there.
//
// The program is told what to do by lines of JSON on stdin (see order), answers each with one line on stdout (see
// state), and ends with stdin.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"log"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"

	"tailscale.com/derp/derpserver"
	"tailscale.com/net/stunserver"
	"tailscale.com/tailcfg"
	"tailscale.com/tstest/integration/testcontrol"
	"tailscale.com/types/key"
)

// domain of the machines' names.
const domain = "tail.test"

// order is what a line on stdin asks for; what is left out stays as it is.
type order struct {
	Key    *string // the one key that joins; empty: none is asked for, not even of a machine that registers again
	Policy *policy
}

type machine struct {
	Name, Address string
	Tags          []string
	Online        bool // holds a stream of updates
}

type state struct {
	Machines []machine
	Error    string
}

// tailnet serves the map, for testcontrol's own has no packet filter but allow-all.
type tailnet struct {
	server *testcontrol.Server

	mu      sync.Mutex
	policy  policy
	key     string
	streams map[key.NodePublic]int
	changed chan struct{} // closed and replaced at each change
}

func (t *tailnet) announceLocked() {
	close(t.changed)
	t.changed = make(chan struct{})
}

func (t *tailnet) stream(ctx context.Context, w testcontrol.MapStreamWriter, req *tailcfg.MapRequest) {
	if !req.Stream {
		t.update(req)
		w.SendMapMessage(&tailcfg.MapResponse{})
		return
	}
	t.count(req.NodeKey, 1)
	defer t.count(req.NodeKey, -1)
	for ctx.Err() == nil {
		t.mu.Lock()
		changed := t.changed
		t.mu.Unlock()
		res, err := t.server.MapResponse(req)
		if err != nil || res == nil {
			return
		}
		t.complete(res)
		if w.SendMapMessage(res) != nil {
			return
		}
		for waiting := true; waiting; {
			select {
			case <-ctx.Done():
				return
			case <-changed:
				waiting = false
			case <-time.After(50 * time.Second):
				if w.SendMapMessage(&tailcfg.MapResponse{KeepAlive: true}) != nil {
					return
				}
			}
		}
	}
}

// update keeps what a machine says of itself, and tells the others.
func (t *tailnet) update(req *tailcfg.MapRequest) {
	node := t.server.Node(req.NodeKey)
	if node == nil || req.ReadOnly {
		return
	}
	node.Endpoints, node.DiscoKey, node.Cap = req.Endpoints, req.DiscoKey, req.Version
	if req.Hostinfo != nil {
		node.Hostinfo = req.Hostinfo.View()
		if info := node.Hostinfo.NetInfo(); info.Valid() && info.PreferredDERP() != 0 {
			node.HomeDERP = info.PreferredDERP()
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.server.UpdateNode(node)
	t.announceLocked()
}

func (t *tailnet) count(machine key.NodePublic, by int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.streams[machine] += by
	t.announceLocked()
}

func (t *tailnet) complete(res *tailcfg.MapResponse) {
	nodes := t.server.AllNodes()
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, peer := range res.Peers {
		online := t.streams[peer.Key] > 0
		peer.Online = &online
	}
	res.ControlTime = nil // a day of 2020
	res.PacketFilter = nil
	// "*" clears what was sent before; the server's type drops an empty list, so no rule at all needs it, too.
	res.PacketFilters = map[string][]tailcfg.FilterRule{"*": nil, "acls": t.policy.filter(res.Node, nodes)}
}

func (t *tailnet) obey(line []byte) state {
	var asked order
	if err := json.Unmarshal(line, &asked); err != nil {
		return state{Error: err.Error()}
	}
	if asked.Policy != nil {
		if err := asked.Policy.check(); err != nil {
			return state{Error: err.Error()}
		}
	}
	t.mu.Lock()
	if asked.Key != nil {
		t.key = *asked.Key
	}
	if asked.Policy != nil {
		t.policy = *asked.Policy
		t.server.TagOwners = maps.Clone(t.policy.TagOwners)
		t.announceLocked()
	}
	t.mu.Unlock()
	now := state{Machines: []machine{}}
	for _, node := range t.server.AllNodes() {
		t.mu.Lock()
		online := t.streams[node.Key] > 0
		t.mu.Unlock()
		name, _, _ := strings.Cut(node.Name, ".")
		now.Machines = append(now.Machines, machine{name, node.Addresses[0].Addr().String(), node.Tags, online})
	}
	return now
}

// relay serves DERP and STUN on ip.
func relay(ip string) *tailcfg.DERPMap {
	derp := derpserver.New(key.NewNode(), log.Printf)
	front := httptest.NewUnstartedServer(derpserver.Handler(derp))
	front.Listener.Close()
	front.Listener = must(net.Listen("tcp", net.JoinHostPort(ip, "443")))
	front.StartTLS()
	stun := stunserver.New(context.Background())
	if err := stun.Listen(net.JoinHostPort(ip, "3478")); err != nil {
		log.Fatal(err)
	}
	go stun.Serve()
	node := &tailcfg.DERPNode{
		Name: "1a", RegionID: 1, HostName: ip, IPv4: ip, IPv6: "none", STUNTestIP: ip, InsecureForTests: true,
	}
	region := &tailcfg.DERPRegion{RegionID: 1, RegionCode: "test", Nodes: []*tailcfg.DERPNode{node}}
	return &tailcfg.DERPMap{Regions: map[int]*tailcfg.DERPRegion{1: region}, OmitDefaultRegions: true}
}

func main() {
	listen := flag.String("listen", "", "address of the control server, IP:port")
	relayIP := flag.String("relay", "", "address of the relay, an IP")
	flag.Parse()
	t := &tailnet{streams: map[key.NodePublic]int{}, changed: make(chan struct{})}
	t.server = &testcontrol.Server{
		ExplicitBaseURL: "http://" + *listen,
		DERPMap:         relay(netip.MustParseAddr(*relayIP).String()),
		DNSConfig:       &tailcfg.DNSConfig{Proxied: true, Domains: []string{domain}},
		MagicDNSDomain:  domain,
		TagOwners:       map[string][]string{},
		Verbose:         true, // requests to register, in the log: who logs out asks for an expiry in the past
		AltMapStream:    t.stream,
	}
	t.server.MaybeRateLimitRegister = func() (bool, string, string) {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.server.RequireAuthKey = t.key
		return false, "", ""
	}
	listener := must(net.Listen("tcp", *listen))
	go func() { log.Fatal(http.Serve(listener, t.server)) }()
	answers := json.NewEncoder(os.Stdout)
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		answers.Encode(t.obey(lines.Bytes()))
	}
}

func must[T any](value T, err error) T {
	if err != nil {
		log.Fatal(err)
	}
	return value
}
