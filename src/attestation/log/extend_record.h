// The keeper's own record of one boot: every PCR extend that the vTPM carried out since its reset,
// in order. It needs nothing from the guest, and the guest cannot edit it: an event log is checked
// against it, and where there is no log it stands alone.
//
// As JSON it is what the keeper's control socket answers to "measurements", in pages:
//
//   {"boot": {"id", "started_us", "complete", "exit_boot_services", "exit_us", "startup_locality"},
//    "total": N, "extends": [{"n", "pcr", "locality", "time_us", "digests": {"sha256": hex, …}},
//    …]}
//
// A change that is no extend says so: "kind": "reset" (and no digest), "hcrtm", "drtm".
//
// Parsing is strict and bounded; numbers run without a gap.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "attestation/log/pcr.h"
#include "base/ids.h"
#include "base/result.h"
#include "sys/json.h"

namespace hf::attestation {

inline constexpr size_t kExtendsMax = 65536;  // of one boot; the keeper stops earlier
inline constexpr size_t kExtendRecordJsonMax = size_t{32} << 20;
inline constexpr size_t kBootIdHexSize = 16;

// What else changes a PCR has a place in the record too, with "kind" in its JSON.
enum class PcrChange : uint8_t {
  kExtend,
  kReset,  // TPM2_PCR_Reset: zeroes; has no digests
  kHcrtm,  // _TPM_Hash_* before TPM2_Startup: PCR 0 = 0…04, then an extend
  kDrtm,   // _TPM_Hash_* after it: PCRs 17 to 22 = zeroes, then an extend of PCR 17
};

struct Extend {
  uint64_t n = 0;  // from 0, over all PCRs
  PcrChange kind = PcrChange::kExtend;
  uint8_t pcr = 0;
  uint8_t locality = 0;
  Micros time;
  std::vector<PcrDigest> digests;  // one a bank, each bank once

  const PcrDigest* digest(HashAlg alg) const;  // null if the bank is not there
  // Does to the bank what the TPM did; false if the bank's digest is not there.
  bool apply(PcrBank& bank) const;
  bool operator==(const Extend&) const = default;
};

struct ExtendRecord {
  std::string boot_id;  // 16 hex digits, new at each power-on or reset of the TPM
  Micros started;
  uint8_t startup_locality = 0;                // of TPM2_Startup
  std::optional<uint64_t> exit_boot_services;  // n of the extend that says so
  std::optional<Micros> exited;
  bool complete = true;         // false: extends are missing, for whatever reason
  uint64_t total = 0;           // of the boot so far; more than are here while pages are missing
  std::vector<Extend> extends;  // a page: its first n need not be 0

  bool whole() const;  // every extend is here, from n = 0
  bool operator==(const ExtendRecord&) const = default;
};

// kInvalidArgument or kLimit, naming the member or the extend.
Result<ExtendRecord> parse_extend_record(std::string_view json);
Result<ExtendRecord> extend_record_from(const sys::JsonObject& object);
sys::JsonObject to_json(const ExtendRecord& record);
sys::JsonObject to_json(const Extend& extend);

// Joins the next page to what is there. kConflict: the page is of another boot (start over), or it
// does not begin where the record ends.
Status append_page(ExtendRecord& record, ExtendRecord page);

// The PCR values these extends lead to; all of them, or those with n < `end`. kNotFound if an
// extend lacks the bank, kInvalidArgument if the record is not whole.
Result<PcrBank> replay(const ExtendRecord& record, HashAlg alg,
                       std::optional<uint64_t> end = std::nullopt);

// Whether this is the extend by which firmware says that the operating system takes over: PCR 5
// with the digest of "Exit Boot Services Invocation" (TCG PC Client Platform Firmware
// Profile, 3.3.4.6). All banks that are there must say so.
bool is_exit_boot_services(uint8_t pcr, const std::vector<PcrDigest>& digests);

}  // namespace hf::attestation
