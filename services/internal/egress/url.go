package egress

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// MaxURLBytes bounds a registered URL, before and after normalization.
const MaxURLBytes = 2048

// CheckURL says whether raw may be registered as an endpoint's URL, and returns
// the form to store: scheme and host in lower case, a literal address in its
// canonical spelling, no default port, and never an empty path. CheckURL of that
// form returns it unchanged. The error is a sentence for the tenant that
// names the rule, such as "url: must use https"; it wraps [ErrRefused] if the
// rule is the address.
//
// raw must be an absolute http or https URL of at most 2,048 bytes, in printable
// ASCII, without user info and fragment. The host is a literal address, held
// against the same rule as at dial time, or a name, which is not looked up here.
// International names are taken in their xn-- form only: mapping them ourselves
// would make addresses out of look-alike digits. Names are held to the allowed
// ports, since whether one leads into an allowed CIDR shows when it is dialed.
// Plain http is for literal addresses and localhost inside an allowed CIDR, or
// for all if the configuration says so.
func (g *Guard) CheckURL(raw string) (string, error) {
	u, err := parse(raw)
	if err != nil {
		return "", err
	}
	host, addrs, err := parseHost(u.Host, u.Hostname())
	if err != nil {
		return "", err
	}
	port, err := parsePort(u)
	if err != nil {
		return "", err
	}
	if err := g.checkHost(addrs, port, u.Scheme == "http"); err != nil {
		return "", err
	}

	switch {
	case port != defaultPort(u.Scheme):
		u.Host = net.JoinHostPort(host, strconv.Itoa(int(port)))
	case strings.Contains(host, ":"):
		u.Host = "[" + host + "]"
	default:
		u.Host = host
	}
	if u.Path == "" {
		u.Path = "/"
	}
	normalized := u.String()
	if len(normalized) > MaxURLBytes {
		return "", errTooLong
	}
	return normalized, nil
}

var errTooLong = fmt.Errorf("url: must be at most %d bytes", MaxURLBytes)

// parse applies the rules that concern the text and the scheme.
func parse(raw string) (*url.URL, error) {
	if len(raw) > MaxURLBytes {
		return nil, errTooLong
	}
	for i := range len(raw) {
		if raw[i] <= ' ' || raw[i] == 0x7f {
			return nil, errors.New("url: must not contain spaces or control characters")
		}
	}
	// A fragment is looked for here because url.Parse drops an empty one.
	if strings.Contains(raw, "#") {
		return nil, errors.New("url: must not have a fragment")
	}
	u, err := url.Parse(raw)
	if err != nil {
		return nil, errors.New("url: is not a valid URL") // without err, which quotes it
	}
	if u.Scheme != "https" && u.Scheme != "http" {
		return nil, errors.New("url: must be absolute and start with https://")
	}
	if u.User != nil {
		return nil, errors.New("url: must not contain a user name or password")
	}
	if u.Hostname() == "" {
		return nil, errors.New("url: must have a host")
	}
	for i := range len(u.Host) {
		if u.Host[i] >= 0x80 {
			return nil, errors.New("url: host must be ASCII; write an international name in its xn-- form")
		}
	}
	for i := range len(raw) {
		if raw[i] >= 0x80 {
			return nil, errors.New("url: must be ASCII; percent-encode other characters in path and query")
		}
	}
	return u, nil
}

// parseHost returns the host in the form to store, and its address if it is a
// literal (localhost counts as both loopback addresses). hostPort is the host as
// it was written, with brackets and port; hostname is the same without.
func parseHost(hostPort, hostname string) (host string, addrs []netip.Addr, err error) {
	invalid := errors.New("url: host is neither a valid name nor an address")
	addr, parseErr := netip.ParseAddr(hostname)
	bracketed := strings.HasPrefix(hostPort, "[")
	switch {
	case parseErr != nil && bracketed:
		return "", nil, invalid
	case parseErr != nil:
		host = strings.TrimSuffix(strings.ToLower(hostname), ".")
		if !validName(host) {
			return "", nil, invalid
		}
		if host == "localhost" || strings.HasSuffix(host, ".localhost") {
			addrs = []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}
		}
		return host, addrs, nil
	case bracketed != addr.Is6():
		return "", nil, invalid
	case addr.Zone() != "":
		return "", nil, errors.New("url: an address must not have a zone")
	}
	addr = addr.Unmap()
	return addr.String(), []netip.Addr{addr}, nil
}

// validName reports whether host has the form of a DNS name: labels of 1 to 63
// letters, digits, hyphens and underscores, at most 253 bytes. A name whose last
// label is a number is refused: 127.1, 0177.0.0.1 and 2130706433 are addresses
// to some resolvers, and no top-level domain is one.
func validName(host string) bool {
	if len(host) > 253 {
		return false
	}
	var last string
	for label := range strings.SplitSeq(host, ".") {
		if len(label) == 0 || len(label) > 63 {
			return false
		}
		for i := range len(label) {
			c := label[i]
			if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' {
				return false
			}
		}
		last = label
	}
	digits := strings.TrimLeft(last, "0123456789")
	return digits != "" && !strings.HasPrefix(last, "0x")
}

// parsePort returns the port that will be dialed.
func parsePort(u *url.URL) (uint16, error) {
	if u.Port() == "" {
		return defaultPort(u.Scheme), nil
	}
	port, err := strconv.ParseUint(u.Port(), 10, 16)
	if err != nil || port == 0 {
		return 0, errors.New("url: port must be a number from 1 to 65535")
	}
	return uint16(port), nil
}

func defaultPort(scheme string) uint16 {
	if scheme == "http" {
		return 80
	}
	return 443
}

// checkHost applies the guard's rule to what is known before dialing. addrs is
// empty for a name.
func (g *Guard) checkHost(addrs []netip.Addr, port uint16, plain bool) error {
	public := len(addrs) == 0 // a name counts as one until it is dialed
	for _, addr := range addrs {
		if g.check(netip.AddrPortFrom(addr, port), plain) == nil {
			return nil
		}
		public = public || g.check(netip.AddrPortFrom(addr, 443), false) == nil
	}
	switch {
	case !public:
		return fmt.Errorf("url: %w", ErrRefused)
	case plain && !g.allowHTTP:
		return errors.New("url: must use https")
	case !slices.Contains(g.ports, port):
		return fmt.Errorf("url: port %d is not allowed", port)
	}
	return nil
}
