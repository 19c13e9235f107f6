// Whose certificate is it? Both sides of a TLS connection between sites show one, and the handshake
// accepts any: what is believed is decided here.
#pragma once

#include <optional>
#include <vector>

#include "base/ids.h"
#include "crypto/x509.h"

namespace hf::peer {

// What a connection carries (RFC 7301 protocol names).
inline constexpr std::string_view kAlpnPairing = "holdfast-pair/2";
inline constexpr std::string_view kAlpnSites = "holdfast-sites/1";
inline constexpr std::string_view kExporterLabel = "EXPORTER-holdfast-pairing";
inline constexpr size_t kChainMax = 8;  // certificates of a peer that are looked at

// "holdfast:site:<hex>", as the vault writes it into each leaf; nullopt: no such name in it.
std::optional<SiteId> site_of(const crypto::Certificate& leaf);

// The chain's leaf is signed by `ca`, for TLS, and names `site`; when it was signed and until when
// does not matter. kWrongKey says what is not so. The chain is not empty.
Status verify_peer(const std::vector<crypto::Certificate>& chain, const crypto::Certificate& ca,
                   SiteId site);

}  // namespace hf::peer
