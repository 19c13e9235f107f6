// The UEFI variable store of an OVMF flash image: reading and editing it without a guest.
//
//   0        firmware volume header | variable store header | variables … | erased (0xff)
//   region   event log (one block)
//            FTW working block: a queue of fault tolerant writes
//            FTW spare: the copy that a reclaim writes before it touches the region
//   size
//
// The bytes are edk2's (MdeModulePkg/Include/Guid/VariableFormat.h, SystemNvDataGuid.h), restated
// in docs/formats/uefi-variable-store.md. An edit works as the firmware's own does: the new record
// goes behind the last one, the old one is marked deleted, and when the region is full the live
// ones are moved together. The image never changes its size.
//
// The guest can write anything here where the firmware is not protected by SMM: every size is
// checked, and what the firmware would not read either is refused with its offset.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "base/result.h"
#include "secure_boot/efi/efi_time.h"
#include "secure_boot/efi/guid.h"
#include "secure_boot/keys/variable_store_format.h"

namespace hf::secure_boot {

namespace attribute {
inline constexpr uint32_t kNonVolatile = 0x01;
inline constexpr uint32_t kBootService = 0x02;
inline constexpr uint32_t kRuntime = 0x04;
inline constexpr uint32_t kHardwareError = 0x08;
inline constexpr uint32_t kAuthenticated = 0x10;  // by count; deprecated
inline constexpr uint32_t kTimeAuthenticated = 0x20;
inline constexpr uint32_t kAppend = 0x40;  // of an update; never stored
// PK, KEK, db, dbx.
inline constexpr uint32_t kSecureBoot = kNonVolatile | kBootService | kRuntime | kTimeAuthenticated;
// MokList and what else only boot loaders may see.
inline constexpr uint32_t kBootOnly = kNonVolatile | kBootService;
}  // namespace attribute

struct Variable {
  Guid vendor;
  std::u16string name;  // as stored, without the NUL; may hold what is not UTF-16
  uint32_t attributes = 0;
  Bytes data;
  EfiTime time;  // of a time-authenticated variable; zero for others
  uint64_t monotonic_count = 0;
  uint32_t public_key_index = 0;
  std::string name_text() const;  // ASCII; whatever else as \uXXXX
};

std::u16string utf16(std::string_view ascii);

class VariableStore {
 public:
  // Takes a copy. An interrupted reclaim (its copy complete, the region not yet written) is brought
  // to its end in the copy, as the firmware would at its next start: see recovered().
  // kUnsupported: no variable store, or of a layout that is not OVMF's. kCorrupt: with the offset.
  static Result<VariableStore> parse(ByteSpan image);

  const std::vector<Variable>& variables() const { return variables_; }
  const Variable* find(const Guid& vendor, std::string_view name) const;

  // Adds the variable, or replaces the one of its vendor and name. The store stays as it was on an
  // error. kNoSpace: it does not fit beside the live ones. kLimit: larger than firmware accepts.
  // kInvalidArgument: no name, no data, or attributes of which no variable can be.
  Status set(const Variable& variable);
  // False if there is none.
  bool remove(const Guid& vendor, std::string_view name);
  // Moves the live variables together; set() does when it must.
  void compact();

  ByteSpan image() const { return image_; }
  size_t bytes_used() const;  // of the region, deleted records included
  size_t bytes_free() const;  // behind the last record
  // The image held an interrupted reclaim: image() differs from what was parsed.
  bool recovered() const { return recovered_; }

 private:
  VariableStore() = default;
  Status read_records();
  bool mark_deleted(const Guid& vendor, std::u16string_view name);

  Bytes image_;
  store_format::Layout layout_;
  size_t end_ = 0;  // of the last record
  std::vector<Variable> variables_;
  bool recovered_ = false;
};

// The variables that decide Secure Boot, as they stand in a store.
struct SecureBootVariables {
  std::optional<Bytes> pk, kek, db, dbx;  // EFI_SIGNATURE_LISTs
  std::optional<Bytes> mok, mokx;         // MokList, MokListX: enrolled in shim
  std::optional<Bytes> sbat_level;        // shim's revocation level, CSV
  bool enabled = false;                   // a PK, and SecureBootEnable not off
  bool shim_validation = true;            // false: MokSBState says that shim checks nothing
  bool mok_ignores_db = false;            // MokDBState: shim asks MokList alone
  // shim's variables that are there and do not count, since anybody in the guest could have written
  // them: it deletes them. They are absent above.
  std::vector<std::string> ignored;
};
// Does shim keep its own variable of these attributes, or delete it? (mok.c, mok_state_variables
// and import_one_mok_state(); sbat.c, check_sbat_var_attributes().)
bool shim_keeps(std::string_view name, uint32_t attributes);
SecureBootVariables secure_boot_variables(const VariableStore& store);

}  // namespace hf::secure_boot
