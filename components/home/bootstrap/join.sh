# A further machine with a card, as an agent of the first one's K3s: `join NUMBER`. All that the two say to each other goes
# over the tailnet. The token comes on a line before this script: as an argument, the list of processes would show it.

TOKEN=${TOKEN-}
TOKEN_FILE=/etc/pilotlight/k3s-token
CA_FILE=/run/pilotlight-ca
NEW_TOKEN="the stack's docs (docs/home.md, \"A second machine\") have the command: it puts what \`k3s token create --ttl 1h\` prints on $HOME_NAME before this script"

check_request() {
  step "reading the request"
  [ "$NODES" -gt 1 ] || refuse "the stack says that there is one machine at home" \
    "\`pulumi config set --path home.nodes 2\` and \`pulumi up\`, then run the new script"
  [[ $NUMBER =~ ^[2-9]$ ]] && [ "$NUMBER" -le "$NODES" ] ||
    refuse "'$NUMBER' is no further machine of $NODES at home" "say \`join 2\`, for the second; more than $NODES need a higher \`home.nodes\` first"
  if [ -z "$TOKEN" ]; then
    [ -e "$TOKEN_FILE" ] || refuse "there is no token for the first machine's K3s" "$NEW_TOKEN"
  elif ! [[ $TOKEN =~ ^K10[0-9a-f]{64}::[a-z0-9]{6}\.[a-z0-9]{16}$ ]]; then
    # The server's own token, which never ends and makes its holder the cluster's owner, has another form.
    refuse "the token isn't one that \`k3s token create\` prints" "$NEW_TOKEN"
  fi
}

# Its address in the tailnet, which stays as long as it is a member.
find_first() {
  step "looking for $HOME_NAME in the tailnet"
  # A name that is no machine's there is asked of DNS, and the home router may know it.
  FIRST=$(tailscale ip -4 "$HOME_NAME" 2>/dev/null) && [[ $FIRST =~ ^100\.(6[4-9]|[789][0-9]|1[01][0-9]|12[0-7])\.[0-9.]+$ ]] ||
    refuse "the tailnet shows no '$HOME_NAME' to this machine" \
      "run this script on the first machine; and let tag:home reach tag:home, as \`pulumi up\` with \`home.nodes\` does where the stack owns the policy (docs/tailnet.md)"
  curl --insecure --fail --silent --max-time 10 --output "$CA_FILE" "https://$FIRST:6443/cacerts" ||
    refuse "$HOME_NAME ($FIRST) doesn't answer on port 6443 of the tailnet" \
      "is it on, does its K3s run, and does the tailnet's policy let tag:home reach tag:home:6443?"
}

# Whether the first machine counts this one as ready, asked as its kubelet.
node_ready() {
  [ "$(k3s kubectl --kubeconfig=/var/lib/rancher/k3s/agent/kubelet.kubeconfig --request-timeout=10s get node "$NAME" \
    --output='jsonpath={.status.conditions[?(@.type=="Ready")].status}' 2>/dev/null)" = True ]
}

# What K3s would find, and repeat for ever in its log: another cluster's token, or one that has ended.
check_token() {
  local told
  [[ "$(sha256sum <"$CA_FILE")" == "${TOKEN:3:64} "* ]] ||
    refuse "the token is of another cluster than $HOME_NAME's" "$NEW_TOKEN"
  told=$(curl --cacert "$CA_FILE" --silent --max-time 10 --output /dev/null --write-out '%{http_code}' --config - \
    "https://$FIRST:6443/v1-k3s/config" <<<"header = \"Authorization: Bearer ${TOKEN##*::}\"") || true
  [ "$told" = 200 ] || refuse "$HOME_NAME doesn't take the token (HTTP $told): it has ended, or was deleted" "$NEW_TOKEN"
}

install_agent() {
  local address
  step "joining K3s on $HOME_NAME as $NAME"
  get_k3s
  # A token is for the first time only. Later the machine has a certificate, until somebody deletes its node.
  if ! node_ready; then
    TOKEN=${TOKEN:-$(cat "$TOKEN_FILE")}
    check_token
    (umask 077 && put "$TOKEN_FILE" 600 <<<"$TOKEN")
  fi
  address=$(tailscale ip -4)
  put /etc/rancher/k3s/config.yaml.d/10-pilotlight.yaml 644 <<EOF
server: "https://$FIRST:6443"
token-file: "$TOKEN_FILE"
node-name: "$NAME"
node-ip: "$address"
flannel-iface: "tailscale0"
EOF
  made node "$NAME"
  k3s_agent_service | put /etc/systemd/system/k3s-agent.service 644
  run_k3s k3s-agent /var/lib/rancher/k3s/agent/client-kubelet.crt "$TOKEN_FILE"
}

await_agent() {
  local tries
  step "waiting for the node"
  for ((tries = 60; ; tries--)); do
    node_ready && break
    [ "$tries" -gt 0 ] || refuse "$NAME isn't ready after ten minutes" \
      "\`journalctl -u k3s-agent -n 20\` says why; if its password is rejected, an earlier $NAME is still there: \`k3s kubectl delete node $NAME\` on $HOME_NAME, then run this again with a new token"
    sleep 10
  done
  check_runtime k3s-agent
  step "asking a pod on another machine"
  # CoreDNS, which the first machine runs, and a port of it that answers over TCP. A ready node says nothing of this way.
  for ((tries = 24; ; tries--)); do
    curl --fail --silent --max-time 5 --output /dev/null http://10.43.0.10:9153/metrics && break
    [ "$tries" -gt 0 ] || refuse "this machine has joined, but reaches no pod on $HOME_NAME" \
      "the tailnet's policy must let tag:home reach tag:home:8472 over UDP (docs/tailnet.md); then run this again"
    sleep 5
  done
}

join() { # NUMBER
  NUMBER=${1-}
  NAME=$HOME_NAME-$NUMBER
  check_request
  AUTH_KEY=${NODE_KEYS[NUMBER - 2]}
  check_all k3s-agent
  prepare
  join_tailnet
  find_first
  install_toolkit
  install_agent
  await_agent
  tell_size
  say "done: $HOME_NAME gives $NAME its pods"
}
