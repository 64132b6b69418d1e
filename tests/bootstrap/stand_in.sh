#!/bin/sh
# Stands in for the programs a bare machine would run; linked under each of their names. Every call is recorded in
# $BOX_STATE/calls; what a program would have done is a file in $BOX_STATE. With FAIL_ONCE set, every call fails when it
# is made for the first time.
name=${0##*/}
unset BASH_ENV
echo "$name $*" >>"$BOX_STATE/calls"
if [ -n "${FAIL_ONCE:-}" ] && ! grep -qxF -- "$name $*" "$BOX_STATE/failed" 2>/dev/null; then
  echo "$name $*" >>"$BOX_STATE/failed"
  echo "$name: made to fail" >&2
  exit 1
fi
for last in "$@"; do :; done

installed() { grep -q "^$1 " "$BOX_STATE/packages" 2>/dev/null; }
# In the tailnet: the first machine at home, and this one.
FIRST=100.64.0.5
OWN=100.64.0.7
first_ca() { echo "the first machine's CA"; }
active() { [ -e "$BOX_STATE/active-$1" ]; }

# As K3s does it: good for a year, and made anew by a start in its last 120 days.
certificate() { # PATH DAYS
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout /dev/null -subj /CN=system:admin \
    -days "$2" -out "$1" 2>/dev/null
}

# What K3s' configuration says under a key, in whatever file.
says() { sed -n "s/^$1: \"*\([^\"]*\).*/\1/p" /etc/rancher/k3s/config.yaml.d/*.yaml; }

# What a server and an agent have in common: guarded, and Flannel's interface has the address that the node says.
node_starts() {
  [ -x /usr/local/bin/k3s ] && active pilotlight-guard.service && [ -s "$BOX_STATE/rules" ] || exit 1
  [ -n "$(says node-ip)" ] || exit 1
  if [ -n "$(says flannel-iface)" ]; then
    ip -4 -oneline address show dev "$(says flannel-iface)" | grep -qF " $(says node-ip)/" || exit 1
  fi
  mkdir -p /var/lib/rancher/k3s/agent/etc/containerd /etc/rancher/node
  echo "a password" >/etc/rancher/node/password
  if installed nvidia-container-toolkit; then
    echo 'runtimes.nvidia' >/var/lib/rancher/k3s/agent/etc/containerd/config.toml
  fi
}

# The first machine takes a token of its own cluster that hasn't ended, or a certificate that it gave the machine.
agent_starts() {
  node_starts
  [ "$(says server)" = "https://$FIRST:6443" ] && [ -z "${FIRST_OFF:-}" ] || exit 1
  [ "$(says node-ip)" = "$OWN" ] && [ "$(says flannel-iface)" = tailscale0 ] || exit 1
  [ "$(stat -c '%a %U' "$(says token-file)")" = "600 root" ] || exit 1
  if [ ! -e /var/lib/rancher/k3s/agent/client-kubelet.crt ]; then
    [ "$(cat "$(says token-file)")" = "K10$(first_ca | sha256sum | cut -d ' ' -f 1)::$(cat "$BOX_STATE/token")" ] || exit 1
  fi
  openssl x509 -noout -checkend $((120 * 86400)) -in /var/lib/rancher/k3s/agent/client-kubelet.crt >/dev/null 2>&1 ||
    certificate /var/lib/rancher/k3s/agent/client-kubelet.crt 365
  echo "kubeconfig" >/var/lib/rancher/k3s/agent/kubelet.kubeconfig
  says node-name >"$BOX_STATE/nodes"
}

k3s_starts() {
  node_starts
  mkdir -p /var/lib/rancher/k3s/server/tls
  [ -e /var/lib/rancher/k3s/server/tls/dynamic-cert.json ] || echo '{}' >/var/lib/rancher/k3s/server/tls/dynamic-cert.json
  openssl x509 -noout -checkend $((120 * 86400)) -in /var/lib/rancher/k3s/server/tls/client-admin.crt >/dev/null 2>&1 ||
    certificate /var/lib/rancher/k3s/server/tls/client-admin.crt 365
  printf 'clusters:\n- cluster:\n    server: https://127.0.0.1:6443\n' >/etc/rancher/k3s/k3s.yaml
}

start() {
  case $1 in
    pilotlight-node-address.service)
      NIC=$(sed -n s/^NIC=//p /etc/pilotlight/node-address.env)
      NIC=$NIC WAIT_S=${WAIT_S:-1} /usr/local/lib/pilotlight/node-address || exit 1
      ;;
    tailscaled.service) installed tailscale || exit 5 ;;
    *) [ -e "/etc/systemd/system/$1" ] || exit 5 ;;
  esac
  : >"$BOX_STATE/active-$1"
}

case "$name $*" in
  "nvidia-smi "*) [ -n "${GPU-NVIDIA GeForce RTX 3090}" ] || exit 6
    echo "${GPU-NVIDIA GeForce RTX 3090}, ${DRIVER:-580.95.05}, 00000000:01:00.0"
    [ -z "${SECOND_GPU:-}" ] || echo "$SECOND_GPU, ${DRIVER:-580.95.05}, 00000000:02:00.0" ;;
  "hostnamectl chassis") echo "${CHASSIS:-desktop}" ;;
  "df "*) printf ' Avail 1G-blocks\n%6s %9s\n' "${FREE_GIB:-500}" "${SIZE_GIB:-900}" ;;
  "ufw status") echo "${UFW:-Status: inactive}" ;;
  "firewall-cmd --state") [ -n "${FIREWALLD:-}" ] || exit 252
    echo running ;;
  "firewall-cmd --zone=trusted --list-all") echo "$FIREWALLD" ;;
  "dpkg --print-architecture") echo "${ARCHITECTURE:-amd64}" ;;
  "dpkg --compare-versions "*) exec /usr/bin/dpkg "$@" ;;
  "dpkg --purge "*)
    for package in "$@"; do sed -i "/^$package /d" "$BOX_STATE/packages"; done ;;
  "dpkg --configure -a") rm -f "$BOX_STATE/dpkg-cut-off" ;;
  "dpkg-query "*Status-Want*) installed "$last" || exit 1
    case " ${HELD:-} " in *" $last "*) echo hold ;; *) echo install ;; esac ;;
  "dpkg-query "*) installed "$last" || exit 1
    echo "installed $(sed -n "s/^$last //p" "$BOX_STATE/packages")" ;;
  # The real one: whether it reads its sources is its own verdict.
  "apt-get update --print-uris") exec /usr/bin/apt-get "$@" ;;
  "apt-get --simulate "*)
    for package in "$@"; do
      case $package in
        -* | install) ;;
        *) installed "${package%%=*}" && was="[1.0] " || was=
          echo "Inst ${package%%=*} $was(${package#*=} some:stable [amd64])" ;;
      esac
    done ;;
  "apt-get "*install*)
    if [ -e "$BOX_STATE/dpkg-cut-off" ]; then
      echo "dpkg was interrupted" >&2
      exit 100
    fi
    for package in "$@"; do
      case $package in
        -* | DPkg::* | install) ;;
        *)
          installed "${package%%=*}" && sed -i "/^${package%%=*} /d" "$BOX_STATE/packages"
          case $package in
            *=*) echo "${package%%=*} ${package#*=}" >>"$BOX_STATE/packages" ;;
            *) echo "$package 1.0" >>"$BOX_STATE/packages" ;;
          esac
          ;;
      esac
    done ;;
  "apt-get "*update) echo "said on stdout" ;;
  "curl "*"/gpgkey") echo "${NVIDIA_KEY:-nvidia key}" >"$(echo "$*" | sed 's/.*--output \([^ ]*\).*/\1/')" ;;
  "curl "*".noarmor.gpg") echo "tailscale key" >"$(echo "$*" | sed 's/.*--output \([^ ]*\).*/\1/')" ;;
  "curl "*"/k3s") echo "${K3S_BINARY:-k3s binary}" >"$(echo "$*" | sed 's/.*--output \([^ ]*\).*/\1/')" ;;
  "gpg "*)
    printf 'pub:-:\nfpr:::::::::%s:\nsub:-:\nfpr:::::::::0123:\n' "$(
      case $(cat "$last") in
        "nvidia key") echo C95B321B61E88C1809C4F759DDCAE044F796ECB0 ;;
        "tailscale key") echo 2596A99EAAB33821893C0A79458CA832957F5868 ;;
        *) echo 0000 ;;
      esac
    )" ;;
  "curl "*" https://$FIRST:6443/cacerts") [ -z "${FIRST_OFF:-}" ] || exit 28
    first_ca >"$(echo "$*" | sed 's/.*--output \([^ ]*\).*/\1/')" ;;
  "curl --cacert "*" --config - https://$FIRST:6443/v1-k3s/config") [ -z "${FIRST_OFF:-}" ] || exit 28
    [ "$(cat "$2")" = "$(first_ca)" ] || exit 60
    if [ "$(cat)" = "header = \"Authorization: Bearer $(cat "$BOX_STATE/token" 2>/dev/null)\"" ]; then
      printf 200
    else
      printf 401
    fi ;;
  "curl "*" http://10.43.0.10:9153/metrics") active k3s-agent.service && [ -z "${PODS_CLOSED:-}" ] || exit 28 ;;
  "nft --stateless list "*) cat "$BOX_STATE/rules" 2>/dev/null || exit 1 ;;
  "nft table inet pilotlight_guard; delete table inet pilotlight_guard") rm -f "$BOX_STATE/rules" ;;
  "nft "*) cp "$last" "$BOX_STATE/rules"
    echo "said on stdout" ;;
  "tailscale status"*)
    [ -e "$BOX_STATE/tailnet" ] || { printf '{\n  "BackendState": "%s"\n}\n' "${TAILSCALE:-NeedsLogin}"; exit 0; }
    called=${CALLED:-$(cat "$BOX_STATE/tailnet")}
    printf '{\n  "BackendState": "Running",\n  "Self": {\n    "DNSName": "%s.some.ts.net.",\n' "${called:-home}"
    printf '    "Tags": [\n      "%s"\n    ]\n  },\n  "MagicDNSSuffix": "some.ts.net"\n}\n' "${TAG:-tag:home}" ;;
  "tailscale ip -4") [ -e "$BOX_STATE/tailnet" ] || exit 1
    echo "$OWN" ;;
  "tailscale ip -4 home") [ -e "$BOX_STATE/tailnet" ] || exit 1
    # A machine that no rule names isn't shown, and then it asks DNS.
    [ -n "${HIDDEN:-}" ] || { echo "$FIRST"; exit 0; }
    [ -z "${DNS_SAYS:-}" ] && echo "error looking up IP" >&2 && exit 1
    echo "$DNS_SAYS" ;;
  "tailscale up"*)
    active tailscaled.service || exit 1
    name=$(echo "$*" | sed 's/.*--hostname=\([^ ]*\).*/\1/')
    key=tskey-auth-test${name#home}
    case $* in
      *--auth-key=file:*)
        file=$(echo "$*" | sed 's/.*--auth-key=file:\([^ ]*\).*/\1/')
        [ "$(stat -c '%a %U' "$file")" = "600 root" ] && [ "$(cat "$file")" = "$key" ] || exit 1
        ;;
      *"--auth-key=$key "*) ;;
      *) exit 1 ;;
    esac
    [ ! -e "$BOX_STATE/key-used" ] || { echo "invalid key: already used" >&2; exit 1; }
    : >"$BOX_STATE/key-used"
    ip link add tailscale0 type veth peer name tailscale0-peer
    ip link set tailscale0 up
    ip address add "$OWN/32" dev tailscale0
    echo "$name" >"$BOX_STATE/tailnet" ;;
  "systemctl daemon-reload") cat /etc/systemd/system/*.service >"$BOX_STATE/loaded" ;;
  "systemctl enable "*)
    case $last in
      tailscaled.service) installed tailscale || exit 5 ;;
      *) [ -e "/etc/systemd/system/$last" ] || exit 5 ;;
    esac
    : >"$BOX_STATE/enabled-$last"
    case $* in *--now*) start "$last" ;; esac ;;
  "systemctl is-enabled "*) [ -e "$BOX_STATE/enabled-$last" ] || exit 1 ;;
  "systemctl disable "*) [ -e "/etc/systemd/system/$last" ] || exit 5
    rm -f "$BOX_STATE/enabled-$last" "$BOX_STATE/active-$last" ;;
  "systemctl stop kubepods.slice") ;;
  "tailscale logout") rm -f "$BOX_STATE/tailnet"
    ip link delete tailscale0 ;;
  "systemctl start "*) start "$last" ;;
  "systemctl is-active "*) active "$last" || exit 3 ;;
  "systemctl restart k3s.service") k3s_starts && : >"$BOX_STATE/active-k3s.service" && echo restart >>"$BOX_STATE/restarts" ;;
  "systemctl restart k3s-agent.service")
    # The process tells systemd that it is ready only once the first machine took it in.
    (agent_starts) && : >"$BOX_STATE/active-k3s-agent.service" && echo restart >>"$BOX_STATE/restarts" ;;
  "systemctl cat k3s.service") [ -e /etc/systemd/system/k3s.service ] || exit 1 ;;
  "systemctl --no-block try-restart k3s.service") ! active k3s.service || echo try-restart >>"$BOX_STATE/restarts" ;;
  "k3s kubectl wait "*) active k3s.service || exit 1
    case $* in
      *" --selector=node-role.kubernetes.io/control-plane "*) ;;
      *) [ -z "${AGENT_OFF:-}" ] || exit 1 ;;
    esac ;;
  "k3s kubectl --kubeconfig="*" get node home-"[0-9]" "*)
    [ -e /var/lib/rancher/k3s/agent/kubelet.kubeconfig ] && active k3s-agent.service && [ -z "${FIRST_OFF:-}" ] || exit 1
    grep -qx "$(echo "$*" | sed 's/.* get node \([^ ]*\).*/\1/')" "$BOX_STATE/nodes" && [ -z "${NOT_READY:-}" ] || exit 1
    printf True ;;
  "k3s kubectl "*" get secret "*) [ -e "$BOX_STATE/api-up" ] || exit 1
    cat "$BOX_STATE/secret" 2>/dev/null || : ;;
  "k3s kubectl "*" delete secret "*) rm -f "$BOX_STATE/secret" ;;
  *)
    echo "$name: not expected: $*" >&2
    exit 64 ;;
esac
