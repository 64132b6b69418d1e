// Rules answers, by the policy engine of headscale, who reaches what under a policy.
//
// Standard input: one JSON object of `policy`, `machines` and `asks`. Standard output: a JSON list, true for each ask
// that the packet filter of the asked machine lets in.
package main

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"

	policy "github.com/juanfont/headscale/hscontrol/policy/v2"
	"github.com/juanfont/headscale/hscontrol/types"
	"gorm.io/gorm"
	"tailscale.com/tailcfg"
	"tailscale.com/types/ipproto"
	"tailscale.com/types/views"
	"tailscale.com/wgengine/filter"
)

type question struct {
	Policy   json.RawMessage
	Machines []struct {
		Login  string
		Tags   []string
		IPs    []netip.Addr
		Routes []netip.Prefix
	}
	Asks []struct {
		// From is the sender's address, At the machine (by its place) whose filter decides, To the address behind it.
		From, To netip.Addr
		At       int
		Port     uint16
		// Protocol is its IP number: 6 is TCP, 17 is UDP.
		Protocol ipproto.Proto
	}
}

func main() {
	answers, err := answer(os.Stdin)
	if err == nil {
		err = json.NewEncoder(os.Stdout).Encode(answers)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func answer(from *os.File) ([]bool, error) {
	var asked question
	if err := json.NewDecoder(from).Decode(&asked); err != nil {
		return nil, err
	}
	users := map[string]*types.User{}
	var nodes types.Nodes
	for i, machine := range asked.Machines {
		id := uint(i + 1)
		node := &types.Node{
			ID:             types.NodeID(id),
			Hostname:       fmt.Sprintf("machine-%d", id),
			IPv4:           &machine.IPs[0],
			IPv6:           &machine.IPs[1],
			Tags:           machine.Tags,
			Hostinfo:       &tailcfg.Hostinfo{RoutableIPs: machine.Routes},
			ApprovedRoutes: machine.Routes,
		}
		if machine.Login != "" {
			user, known := users[machine.Login]
			if !known {
				user = &types.User{Model: gorm.Model{ID: id}, Name: machine.Login, Email: machine.Login}
				users[machine.Login] = user
			}
			node.User, node.UserID = user, &user.ID
		}
		nodes = append(nodes, node)
	}
	var people []types.User
	for _, user := range users {
		people = append(people, *user)
	}
	manager, err := policy.NewPolicyManager(asked.Policy, people, nodes.ViewSlice())
	if err != nil {
		return nil, err
	}
	answers := make([]bool, len(asked.Asks))
	for i, ask := range asked.Asks {
		rules, err := manager.FilterForNode(nodes[ask.At].View())
		if err != nil {
			return nil, err
		}
		matches, err := filter.MatchesFromFilterRules(rules)
		if err != nil {
			return nil, err
		}
		for _, match := range matches {
			for _, target := range match.Dsts {
				answers[i] = answers[i] || match.SrcsContains(ask.From) && views.SliceContains(match.IPProto, ask.Protocol) &&
					target.Net.Contains(ask.To) && target.Ports.Contains(ask.Port)
			}
		}
	}
	return answers, nil
}
