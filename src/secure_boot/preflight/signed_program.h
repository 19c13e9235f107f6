// A boot program's signatures without the program: enough to say which certificate would vouch for
// it under other keys, long after its disk was read.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "secure_boot/image/image_verification.h"
#include "secure_boot/preflight/preflight.h"
#include "sys/json.h"

namespace hf::secure_boot {

struct SignedProgram {
  std::string path;
  std::string judged_by;             // "firmware", "shim"
  Bytes sha256;                      // Authenticode digest
  std::vector<Bytes> signatures;     // PKCS #7, in the image's order
  std::optional<Authority> vouched;  // what vouched when the disk was read
};
inline constexpr size_t kSignedProgramsMax = 16;

// The programs of the path that decides (deciding_path()), in boot order.
std::vector<SignedProgram> signed_programs_of(const PreflightReport& report);
// What would vouch for it under `state`; nullopt: nothing.
std::optional<Authority> authority_for(const SignedProgram& program, const SecureBootState& state);
// The entry of dbx (for shim's programs MokListX too) that forbids it. SBAT is not looked at.
std::optional<Authority> revocation_of(const SignedProgram& program, const SecureBootState& state);
// What would vouch for each under `state`, in boot order: firmware asks db; shim asks db, MokList,
// then what it brings along itself. A program that nothing vouches for has no entry.
std::vector<Authority> authorities_of(const std::vector<SignedProgram>& programs,
                                      const SecureBootState& state);

sys::JsonArray to_json(const std::vector<SignedProgram>& programs);
Result<std::vector<SignedProgram>> signed_programs_from_json(const sys::JsonArray& list);

}  // namespace hf::secure_boot
