// A change of Secure Boot's variables, as a value: what the CLI makes of its words, what the daemon
// sends, what the keeper applies to a VM's store.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/result.h"
#include "secure_boot/efi/efi_time.h"
#include "secure_boot/keys/signature_list.h"
#include "secure_boot/keys/variable_store.h"

namespace hf::secure_boot {

enum class ChangeAction {
  kSet,     // data: signature lists, which replace what is there, byte for byte
  kAppend,  // data: signature lists; what is there already is not added twice
  kRemove,  // data: signature lists; goes by type and data, whoever owns it
  kDelete,  // no data: the variable goes
  kUpdate,  // data: an authenticated update, checked against the store's own keys
};
std::string_view name_of(ChangeAction action);  // "set", "append", "remove", "delete", "update"
Result<ChangeAction> parse_change_action(std::string_view name);

// Variables that can be changed: the four keys of Secure Boot, shim's own lists, and the switch.
//   PK KEK db dbx      attributes NV|BS|RT|AT
//   MokList MokListX   shim's, attributes NV|BS: shim takes no others
//   SecureBootEnable   set to one byte, 1 or 0: Secure Boot on or off with the keys as they are
//   MokSBState         set to one byte, 1: shim validates nothing; delete it to undo
struct Change {
  std::string variable;  // for kUpdate it may be empty: the signature says which
  ChangeAction action = ChangeAction::kSet;
  Bytes data;
  bool operator==(const Change&) const = default;
};

inline constexpr size_t kChangesMax = 64;

// Of a change that somebody wants made. kInvalidArgument: no such variable, an action it does not
// have, data that firmware would refuse.
Status check(const Change& change);
// "append to db: X509 "Test CA" (sha256 ab12…)".
std::string describe(const Change& change);
std::string describe(const std::vector<Change>& changes);  // at most 500 bytes

// The changes of PK, KEK, db, dbx and shim's lists that lead from one to the other.
std::vector<Change> changes_between(const SecureBootVariables& from, const SecureBootVariables& to);

struct ChangeResult {
  std::string variable;
  size_t added = 0;  // signatures
  size_t removed = 0;
  bool changed = false;
  std::string words;  // what happened: "db: 1 signature added, 3 in all"
};

// `now` becomes the time of what is set, unless the variable's own is later. The store is as it was
// on an error. Errors of check(), VariableStore::set() and apply_update(). kSet is applied whatever
// its signature lists are, except for two PKs: it may be the way back to what was there before.
Result<ChangeResult> apply_change(VariableStore& store, const Change& change, const EfiTime& now);
// All or none.
Result<std::vector<ChangeResult>> apply_changes(VariableStore& store,
                                                std::span<const Change> changes,
                                                const EfiTime& now);
// What the variables of a VM become by the changes, tried on a store of its kind.
Result<SecureBootVariables> variables_after(VariableStore store, const SecureBootVariables& before,
                                            const std::vector<Change>& changes, const EfiTime& now);

}  // namespace hf::secure_boot
