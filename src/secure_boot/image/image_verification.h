// Would firmware start this image? Would shim?
//
// The same questions in the same order as the programs that decide: edk2's DxeImageVerificationLib
// (UEFI 2.10, 32.5.3.3) and shim's verify.c (16.1). Where they are more lenient with a malformed
// signature than the specification, it is refused here: an answer of "allowed" is never wrong.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "secure_boot/image/authenticode.h"
#include "secure_boot/image/pe_image.h"
#include "secure_boot/image/sbat.h"
#include "secure_boot/keys/signature_list.h"

namespace hf::secure_boot {

// What decides, out of a variable store or a profile.
struct SecureBootState {
  bool enforced = true;  // Secure Boot is on
  SignatureDatabase db;
  SignatureDatabase dbx;
  SignatureDatabase mok;                // MokList: keys that the machine's owner gave to shim
  SignatureDatabase mokx;               // MokListX
  bool mok_ignores_db = false;          // MokDBState
  bool shim_checks_nothing = false;     // MokSBState
  std::optional<SbatLevel> sbat_level;  // SbatLevel; absent until a shim has run
  bool sbat_latest = false;             // SbatPolicy: shim sets the newest level that it brings
};

enum class Verdict : uint8_t {
  kAllowed,
  kNotTrusted,  // signed by nobody that is trusted
  kUnsigned,    // not signed, and its digest is in no list
  kRevoked,     // by dbx, MokListX, shim's own list or SBAT
  kDamaged,     // its signature is for other bytes, or cannot be read
};
std::string_view to_string(Verdict verdict);  // "allowed", "not trusted", …

// What let an image start, as it is measured into PCR 7 (EV_EFI_VARIABLE_AUTHORITY).
struct Authority {
  std::string variable;  // "db", "MokListRT", "vendor_db", "Shim"
  Guid vendor;
  Bytes data;         // EFI_SIGNATURE_DATA; for "Shim" the certificate alone
  std::string words;  // "Microsoft UEFI CA 2023 (db)"
  // shim brought it along: it vouches whatever the VM's variables hold.
  bool from_shim = false;
};

struct ImageVerdict {
  Verdict verdict = Verdict::kNotTrusted;
  std::string reason;  // a sentence without its stop
  std::optional<Authority> authority;
  bool allowed() const { return verdict == Verdict::kAllowed; }
};

// Why the VM's firmware would not load it, whoever signed it and whether it asks or not.
std::optional<std::string> not_for_this_firmware(const PeImage& image);
ImageVerdict judge_by_firmware(const PeImage& image, const SecureBootState& state);

// What a shim brings along.
struct ShimTrust {
  SignatureDatabase vendor_db;  // a single certificate is a database of one
  bool vendor_is_certificate = true;
  SignatureDatabase vendor_dbx;
  std::optional<ShimLevels> levels;
  std::vector<SbatComponent> components;  // what it is made of; empty: older than SBAT
};
// From its sections .vendor_cert, .sbatlevel and .sbat; kInvalidArgument: not as shim lays them
// out.
Result<ShimTrust> shim_trust_of(const PeImage& shim);

enum class ShimCaller : uint8_t {
  kShim,      // shim's own second stage: SBAT is a must
  kProtocol,  // a boot loader asks shim: an image without SBAT passes
};
ImageVerdict judge_by_shim(const PeImage& image, const SecureBootState& state,
                           const ShimTrust& shim, ShimCaller caller);
// The level that shim has set by the time it judges: the variable's, or its own if that is newer.
std::optional<SbatLevel> effective_level(const SecureBootState& state, const ShimTrust& shim);
// Under Secure Boot shim holds itself against that level before it does anything, whatever
// MokSBState says, and shuts the machine down if it is revoked: why, in words.
std::optional<std::string> revokes_itself(const SecureBootState& state, const ShimTrust& shim);

// The signatures that can be read, each with where it stands; the others as errors in words.
struct ImageSignature {
  std::optional<AuthenticodeSignature> signature;
  std::string error;          // if it cannot be read
  bool covers_image = false;  // its digest is this image's
};
std::vector<ImageSignature> signatures_of(const PeImage& image);

}  // namespace hf::secure_boot
