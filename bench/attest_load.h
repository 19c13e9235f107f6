// The load of the attestation bench: VMs with a key and a boot of their own, and evidence of them.
//
// Each VM's event log is a real one (the probe guest's boot through shim and GRUB, tests/corpus),
// grown to 120 events by commands as GRUB measures them on an installed Debian, with the VM's own
// root disk in its kernel command line. Half of the attestation keys are RSA-2048 (RSASSA), half
// ECDSA on P-256.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "attestation/testing/quote_maker.h"
#include "attestation/tpm/evidence.h"

namespace hf::bench {

inline constexpr size_t kEventsOfLog = 120;

struct Vm {
  VmId id;
  std::unique_ptr<attestation::SoftwareAk> ak;
  Bytes ak_name;  // pinned
  Bytes log;
  std::vector<attestation::PcrValues> pcrs;
  std::string baseline;  // JSON
};

struct Request {
  const Vm* vm;
  Bytes nonce;           // the verifier's
  std::string evidence;  // JSON
};

// A real boot's log, to make others of.
Result<Bytes> read_boot(const std::string& path);
Result<std::vector<Vm>> make_vms(size_t count, const Bytes& boot, size_t threads);
Request make_request(const Vm& vm);

}  // namespace hf::bench
