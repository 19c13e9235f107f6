// What attestation keeps of a VM, and the form in which it travels inside the VM's journal: policy,
// baseline, the attestation key and the newest verdicts go with every recovery point, so that a
// site that takes over knows what the VM's boots must look like.
//
//   {"version":1,"policy":text,"baseline":text,"identity":text,"explanations":text,
//    "verdicts":[{"time_us","verdict","record":text}]}                       oldest first
//
// The texts are those of the catalog. The packet is bounded: old verdicts give way.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "attestation/appraisal/appraisal.h"
#include "control/store/catalog.h"
#include "sys/json.h"

namespace hf::control {

inline constexpr size_t kPacketMax = (size_t{1} << 20) - 4096;  // what a keeper takes, with room

// The VM's attestation key as it was enrolled, and what its TPM's counters last were.
struct AttestationIdentity {
  Bytes ak_public;  // TPMT_PUBLIC
  Bytes ak_name;
  std::string certificate;  // PEM
  SiteId certified_by;
  uint32_t reset_count = 0;  // of the newest quote that was not of an older state
  std::string boot_id;       // the boot that it was of; empty: not known
  bool operator==(const AttestationIdentity&) const = default;
};
sys::JsonObject to_json(const AttestationIdentity& identity);
Result<AttestationIdentity> parse_identity(std::string_view text);

// As the catalog keeps it. kLimit: longer than parse_baseline() would read again.
Result<std::string> baseline_text(const attestation::Baseline& baseline);

// `newest_first` as the catalog gives them. kLimit: policy and baseline alone are too large.
Result<Bytes> pack_attestation(const AttestationRow& row,
                               const std::vector<VerdictRow>& newest_first);
struct AttestationPacket {
  AttestationRow row;
  std::vector<VerdictRow> verdicts;  // oldest first
};
Result<AttestationPacket> unpack_attestation(ByteSpan bytes);

}  // namespace hf::control
