// Inside hf_vault: file names, and the errors that more than one file reports.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "base/ids.h"
#include "base/result.h"
#include "crypto/key_pair.h"
#include "title/refusal.h"
#include "vault/core/wrap.h"
#include "vault/protocol/types.h"

namespace hf::vault {

// The daemon asks for a new leaf at its start; five years outlast any run of it.
inline constexpr uint32_t kLeafValidDays = 5 * 365;

inline constexpr std::string_view kAttestationKeyFileName = "attestation-key.hfv";

std::string key_file_name(const VmId& vm);    // key-HEX.hfv
std::string title_file_name(const VmId& vm);  // title-HEX.hfv
std::optional<VmId> vm_of_title_file(std::string_view name);
std::string freshness_file_name(const VmId& vm);        // freshness-HEX.hfv
std::string attestation_file_name(const VmId& vm);      // attestation-HEX.hfv
std::string recipient_file_name(const SiteId& site);    // recipient-HEX.hfv
std::string members_file_name(const VmId& vm);          // members-HEX.hfv
std::string offer_file_name(const PairingTokenId& id);  // pairing-HEX.hfv

Error no_key(const VmId& vm);
// For a caller that is told in words: kUnavailable if asking (again) may lead on, else kConflict.
Error refused_by_title(const VmId& vm, const title::Refused& refused, std::string effect);
Error key_conflict(const VmId& vm, const KeyId& here, KeyVersion version, const WrapFacts& offered);
// That `wrap` is of `vm`, for `self`, and signed by `peer`, which must be pinned. kWrongKey,
// kInvalidArgument.
Status check_wrap(const ParsedWrap& wrap, const VmId& vm, const SiteIdentity& peer,
                  const SiteIdentity& self, const crypto::SpkiKey& own_key);

}  // namespace hf::vault
