# Asks what this machine is, and what it does already. All of it comes before the first change: whoever is refused has the
# machine that he had.

check_machine() {
  local system nic
  step "checking the machine"
  [ "$(id -u)" -eq 0 ] || refuse "this must run as root" "pipe it into \`ssh $HOME_NAME sudo bash\`"
  exec 9>/run/pilotlight-bootstrap.lock
  flock --nonblock 9 || refuse "this script is running already" "wait for it, then run it again"
  system="$(os_release ID) $(os_release VERSION_CODENAME)"
  case $system in
    "debian "?* | "ubuntu "?*) ;;
    *) refuse "this is '$system', not Debian or Ubuntu" "NVIDIA's and Tailscale's packages are installed by apt for those two" ;;
  esac
  [ "$(dpkg --print-architecture)" = amd64 ] || refuse "this machine isn't amd64" "the pinned images are"
  [ -d /run/systemd/system ] || refuse "systemd isn't running" "K3s is started by it"
  if [ "$(hostnamectl chassis 2>/dev/null)" = laptop ]; then
    say "  note: this is a laptop: with its lid closed it sleeps, unless /etc/systemd/logind.conf has HandleLidSwitch=ignore"
  fi
  nic=${NIC:-$(ip -4 -oneline route show default 2>/dev/null | sed -n '1s/.* dev \([^ ]*\).*/\1/p' || true)}
  if [ -n "$nic" ] && [ -e "/sys/class/net/$nic/phy80211" ]; then
    say "  note: $nic is Wi-Fi, whose power saving delays answers: \`iw dev $nic set power_save off\`, and for good wifi.powersave=2 in a [connection] of /etc/NetworkManager/conf.d"
  fi
}

check_gpu() {
  local gpus name driver least
  command -v nvidia-smi >/dev/null ||
    refuse "no nvidia-smi: NVIDIA's driver isn't installed" "install driver $DRIVER_OWN or newer, restart, and run this again"
  gpus=$(nvidia-smi --query-gpu=name,driver_version,pci.bus_id --format=csv,noheader 2>&1) && [[ $gpus == *", "* ]] ||
    refuse "nvidia-smi sees no GPU: ${gpus:-nothing}" "\`nvidia-smi\` must list it; after a driver update the machine must restart"
  # A service gets a slice of any of them, and its share of memory is counted on the one that `home.gpu` names.
  [ "$(cut -d , -f 1 <<<"$gpus" | sort -u | wc -l)" -eq 1 ] ||
    refuse "there are different GPUs: $(awk -F ', ' '{ print $1 " at " $3 }' <<<"$gpus" | paste -sd ';'); K3s would give a service any of them" \
      "take out all but the one that \`home.gpu\` names, or hide them from NVIDIA's driver: \`driverctl set-override <their address> vfio-pci\`"
  IFS=, read -r name driver _ <<<"$gpus"
  driver=${driver# }
  # An image that is newer than the driver brings the driver's libraries, and NVIDIA's toolkit takes those (its hook
  # enable-cuda-compat). Only data-centre cards run with them, others end with error 803: vllm/env_override.py, and
  # docs.nvidia.com/deploy/cuda-compatibility/forward-compatibility.html.
  least=$DRIVER_LEAST
  case $name in
    *GeForce* | *RTX* | *GTX* | *TITAN* | *Quadro*) least=$DRIVER_OWN ;;
  esac
  dpkg --compare-versions "$driver" ge "$least" ||
    refuse "driver $driver is too old: $VLLM_IMAGE needs $least or newer on a card such as $name" \
      "install a newer driver, restart, and run this again"
  say "  GPU: $name, driver $driver"
  dpkg --compare-versions "$driver" ge "$DRIVER_OWN" ||
    say "  note: that is older than the image's CUDA ($DRIVER_OWN); NVIDIA promises a limited feature set. If vLLM stops with an error about PTX or CUDA's version, update the driver"
}

check_disk() {
  local free size
  read -r free size <<<"$(df --output=avail,size --block-size=1G /var/lib | tail -n 1)"
  [ "$free" -ge 1 ] || refuse "/var/lib is full" "free some of it, then run this again"
  # Before the first installation only: later the images are there, and what is free is what they left. With less than
  # 5 % free, kubelet evicts every pod (K3s' defaults for imagefs.available and nodefs.available).
  [ -e /usr/local/bin/k3s ] || [ "$((free - size / 20))" -ge "$DISK_GIB" ] ||
    refuse "$free GiB are free under /var/lib, images and weights need $DISK_GIB and K3s keeps 5 % of the disk, $((size / 20)) GiB, free" \
      "free some, or lower a service's \`cache_gib\`"
}

check_apt() {
  local told package needed
  told=$(apt-get update --print-uris 2>&1 >/dev/null) ||
    refuse "apt can't read its sources: ${told%%$'\n'*}" \
      "keep one of the files in /etc/apt that name this source (one called pilotlight-* may go), then run this again"
  # Held back, apt refuses the newer version that is asked for by name, and by then half of the rest is there.
  for package in "${TOOLKIT_PACKAGES[@]}" tailscale; do
    needed=$TOOLKIT_VERSION
    [ "$package" != tailscale ] || needed=$TAILSCALE_VERSION
    [ "$(dpkg-query --show --showformat='${db:Status-Want}' "$package" 2>/dev/null)" != hold ] || installed "$package" "$needed" ||
      refuse "$package is older than $needed, and held back" "\`apt-mark unhold $package\` if nothing needs the old one, then run this again"
  done
}

# Of other programs: another Kubernetes, and whatever listens where K3s will, or where Traefik will take the packets away.
check_others() { # UNIT that K3s is here
  local unit port name
  for unit in k3s k3s-agent; do
    [ -e "/etc/systemd/system/$unit.service" ] || continue
    grep -q pilotlight "/etc/systemd/system/$unit.service" ||
      refuse "another K3s is installed here; flags in its unit, such as --node-ip, would beat every file" \
        "keep what you need of it, then remove it with /usr/local/bin/$unit-uninstall.sh"
    [ "$unit" = "$1" ] ||
      refuse "this machine runs $unit.service already, which is $([ "$unit" = k3s ] && echo "the first machine's" || echo "a further machine's")" \
        "is it the right machine? To change its part, take pilotlight off it first: \`bash -s uninstall\`"
  done
  command -v ss >/dev/null || return 0
  while read -r port name; do
    refuse "port $port is taken by $name, and K3s needs it" \
      "give $name another port, or stop it (\`systemctl status\` with the number that \`ss -ltnp\` shows names its unit), then run this again"
  done < <(ss -Hltnp | awk '{
    port = $4; name = $6; sub(/.*:/, "", port); gsub(/users:\(\("|".*/, "", name)
    if (port ~ /^(80|443|6443|6444|10010|10248|10249|10250|10256|10257|10258|10259)$/ && name !~ /^(k3s|containerd$)/) print port, name ? name : "a program"
  }')
}

# K3s opens nothing in these two. A pod that asks the API server, or the gateway that asks for it, would get no answer.
check_firewall() {
  local told
  told=$(ufw status 2>/dev/null || true)
  [[ $told != *"Status: active"* || $told == *10.42.0.0/16* ]] ||
    refuse "ufw is active, and drops what pods ask of this machine" \
      "\`ufw allow from 10.42.0.0/16 && ufw allow from 10.43.0.0/16\`, then run this again; neighbours stay out by pilotlight's own guard"
  if [ "$(firewall-cmd --state 2>/dev/null)" = running ]; then
    told=$(firewall-cmd --zone=trusted --list-all)
    [[ $told == *10.42.0.0/16* && $told == *tailscale0* ]] ||
      refuse "firewalld is active, and drops what pods and the gateway ask of this machine" \
        "\`firewall-cmd --permanent --zone=trusted --add-source=10.42.0.0/16 --add-source=10.43.0.0/16 --add-interface=tailscale0 && firewall-cmd --reload\`, then run this again"
  fi
}

tailnet_status() { tailscale status --json --peers=false 2>/dev/null || true; }

# One value of the status, the first of that name.
tailnet_value() { # STATUS NAME
  sed -n "s/^ *\"$2\": \"\([^\"]*\)\".*/\1/p" <<<"$1" | head -n 1
}

check_tailnet() {
  local status
  status=$(tailnet_status)
  case $(tailnet_value "$status" BackendState) in
    Running) check_membership "$status" ;;
    Stopped)
      refuse "tailscale is logged in here, and down" "\`tailscale up\`, or \`tailscale logout\` if you don't need that tailnet, then run this again"
      ;;
    NeedsMachineAuth)
      refuse "the tailnet waits for somebody to approve this machine" "approve it at https://login.tailscale.com/admin/machines, then run this again"
      ;;
  esac
}

check_membership() { # STATUS
  local name tailnet
  name=$(tailnet_value "$1" DNSName)
  tailnet=$(tailnet_value "$1" MagicDNSSuffix)
  [[ $1 == *'"tag:home"'* ]] ||
    refuse "this machine is in the tailnet ${tailnet:-?}, but not as tag:home, so the gateway may not reach it" \
      "if that is the gateway's: add tag:home to its tags at https://login.tailscale.com/admin/machines (others may stay); if not: \`tailscale logout\`, which ends what you use it for. Then run this again"
  [ "${name%%.*}" = "$NAME" ] ||
    refuse "the tailnet calls this machine '${name%%.*}', the stack calls it '$NAME'" \
      "remove the old '$NAME' at https://login.tailscale.com/admin/machines and rename this one, or set \`home.hostname\`"
}
