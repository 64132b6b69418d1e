package main

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"tailscale.com/tailcfg"
)

// policy is the part of a tailnet's policy file that says who reaches what.
type policy struct {
	TagOwners map[string][]string `json:"tagOwners"`
	ACLs      []struct {
		Action   string
		Src, Dst []string
	} `json:"acls"`
	Grants []struct {
		Src, Dst, IP []string
	} `json:"grants"`
}

// filter is what `machine` lets in. It covers accept rules whose source is a tag, a login or an autogroup, and whose
// destination is a tag with ports, or autogroup:self; and grants of all to autogroup:member. A machine without tags
// belongs to the tailnet's one user, who is every login and in every autogroup. No machine here has a network behind it.
func (p policy) filter(machine *tailcfg.Node, all []*tailcfg.Node) []tailcfg.FilterRule {
	var rules []tailcfg.FilterRule
	for _, acl := range p.ACLs {
		for _, dst := range acl.Dst {
			at := strings.LastIndex(dst, ":")
			target, ports := dst[:at], portsOf(dst[at+1:])
			if target != "autogroup:self" && !slices.Contains(machine.Tags, target) ||
				target == "autogroup:self" && len(machine.Tags) > 0 {
				continue
			}
			rule := tailcfg.FilterRule{IPProto: []int{6, 17, 1, 58}}
			for _, node := range all {
				tagged := len(node.Tags) > 0
				for _, src := range acl.Src {
					if strings.HasPrefix(src, "tag:") && slices.Contains(node.Tags, src) ||
						!strings.HasPrefix(src, "tag:") && !tagged {
						rule.SrcIPs = append(rule.SrcIPs, addressesOf(node)...)
					}
				}
			}
			for _, ip := range addressesOf(machine) {
				for _, port := range ports {
					rule.DstPorts = append(rule.DstPorts, tailcfg.NetPortRange{IP: ip, Ports: port})
				}
			}
			if len(rule.SrcIPs) > 0 {
				rules = append(rules, rule)
			}
		}
	}
	for _, grant := range p.Grants {
		if len(machine.Tags) > 0 || !slices.Contains(grant.Dst, "autogroup:member") {
			continue
		}
		var rule tailcfg.FilterRule
		for _, node := range all {
			if len(node.Tags) == 0 && slices.Contains(grant.Src, "autogroup:member") {
				rule.SrcIPs = append(rule.SrcIPs, addressesOf(node)...)
			}
		}
		for _, ip := range addressesOf(machine) {
			rule.DstPorts = append(rule.DstPorts, tailcfg.NetPortRange{IP: ip, Ports: tailcfg.PortRangeAny})
		}
		if len(rule.SrcIPs) > 0 {
			rules = append(rules, rule)
		}
	}
	return rules
}

// check refuses what filter would misunderstand.
func (p policy) check() error {
	for _, acl := range p.ACLs {
		for _, src := range acl.Src {
			if !strings.HasPrefix(src, "tag:") && !strings.HasPrefix(src, "autogroup:") && !strings.Contains(src, "@") {
				return fmt.Errorf("source %q is not understood", src)
			}
		}
		for _, dst := range acl.Dst {
			at := strings.LastIndex(dst, ":")
			if target := dst[:max(at, 0)]; !strings.HasPrefix(target, "tag:") && target != "autogroup:self" {
				return fmt.Errorf("destination %q is not understood", dst)
			}
			if portsOf(dst[at+1:]) == nil {
				return fmt.Errorf("ports of %q are not understood", dst)
			}
		}
		if acl.Action != "accept" {
			return fmt.Errorf("action %q is not understood", acl.Action)
		}
	}
	for _, grant := range p.Grants {
		for _, target := range append(slices.Clone(grant.Src), grant.Dst...) {
			if strings.HasPrefix(target, "tag:") || target == "autogroup:tagged" || target == "*" {
				return fmt.Errorf("%q in a grant is not understood", target)
			}
			if network, err := netip.ParsePrefix(target); err == nil && network.Contains(ours) {
				return fmt.Errorf("%q in a grant holds machines of the tailnet", target)
			}
		}
		if !slices.Equal(grant.IP, []string{"*"}) {
			return fmt.Errorf("protocols %q are not understood", grant.IP)
		}
	}
	return nil
}

var ours = netip.MustParseAddr("100.64.0.1")

func portsOf(text string) (found []tailcfg.PortRange) {
	if text == "*" {
		return []tailcfg.PortRange{tailcfg.PortRangeAny}
	}
	for _, part := range strings.Split(text, ",") {
		var port uint16
		if _, err := fmt.Sscanf(part, "%d", &port); err != nil || fmt.Sprint(port) != part {
			return nil
		}
		found = append(found, tailcfg.PortRange{First: port, Last: port})
	}
	return found
}

func addressesOf(node *tailcfg.Node) (found []string) {
	for _, prefix := range node.Addresses {
		found = append(found, prefix.Addr().String())
	}
	return found
}
