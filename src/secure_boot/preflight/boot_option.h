// What a variable store brings to the preflight: boot entries and what decides Secure Boot.
//
// Boot#### variables hold an EFI_LOAD_OPTION (UEFI 2.10, 3.1.3) with a device path; two of its
// nodes lead to a file on a disk (10.3.5.1 and 10.3.5.4).
#pragma once

#include "secure_boot/keys/variable_store.h"
#include "secure_boot/preflight/preflight.h"

namespace hf::secure_boot {

// kInvalidArgument: not a load option. One that leads elsewhere (network, shell, a whole device)
// has no path.
Result<BootOption> parse_boot_option(uint16_t number, ByteSpan data);
// The options that firmware tries and that can be read, in its order: BootNext's, then BootOrder's.
std::vector<BootOption> boot_order_of(const VariableStore& store);
// kCorrupt: a database that is not one.
Result<SecureBootState> secure_boot_state_of(const SecureBootVariables& variables);

// All of it: what to ask about a VM with this store.
Result<PreflightInput> preflight_input_of(const VariableStore& store, std::string profile);

}  // namespace hf::secure_boot
