// Secure Boot's variables as JSON, in words: what `holdfast secure-boot show` and the API give.
#pragma once

#include "secure_boot/change/change.h"
#include "secure_boot/keys/variable_store.h"
#include "sys/json.h"

namespace hf::secure_boot {

// {"secure_boot": on?, "setup_mode": no PK?, "profile": name or null, "shim_validation": bool,
//  "sbat_level": text or null, "mok_ignores_db": true, if shim asks its own list alone,
//  "ignored": names of shim's variables that it will delete, if there are any,
//  "variables":
//  [{"name","present","bytes","error"?,"signatures":[{"type","owner","owner_guid","title",
//                 "detail","fingerprint"}…]}…]}
// A variable that cannot be read has an "error" and no signatures; the others are shown.
sys::JsonObject secure_boot_view(const SecureBootVariables& variables);

// {"variable","added","removed","changed","words"}
sys::JsonObject to_json(const ChangeResult& result);

// The variables by name, base64 or null, and the switches: {"PK","KEK","db","dbx","MokList",
// "MokListX","SbatLevel","enabled": bool,"shim_validation": bool,"mok_ignores_db": bool,
// "ignored": [name…]}.
sys::JsonObject to_json(const SecureBootVariables& variables);
Result<SecureBootVariables> secure_boot_variables_from_json(const sys::JsonObject& object);

// {"variable","action","data": base64}
sys::JsonObject to_json(const Change& change);
Result<Change> change_from_json(const sys::JsonObject& object);
// A list of them: 1 to kChangesMax, each as check() wants it.
sys::JsonArray to_json(const std::vector<Change>& changes);
Result<std::vector<Change>> changes_from_json(const sys::JsonArray& list);

}  // namespace hf::secure_boot
