// Reading a running VM's evidence: from its keeper, and from the agent in its guest if one answers.
#pragma once

#include <chrono>
#include <optional>
#include <string>

#include "attestation/boot/measured_boot.h"
#include "attestation/log/extend_record.h"
#include "attestation/tpm/evidence.h"
#include "base/ids.h"
#include "base/result.h"
#include "hypervisor/guest_agent.h"

namespace hf::control {

// What a quote covers: PCR 0–9 and 11–15. PCR 10 is the kernel's (IMA) and moves while the guest
// works.
inline constexpr std::array<uint32_t, 15> kQuotedPcrs = {0, 1, 2,  3,  4,  5,  6, 7,
                                                         8, 9, 11, 12, 13, 14, 15};

struct KeeperEvidence {
  Epoch epoch;
  IncarnationId incarnation;
  Sequence durable;
  // Up to the moment of the quote.
  attestation::ExtendRecord record;
  attestation::Evidence evidence;  // nonce, quote, key, quoted PCR values, Secure Boot variables
  attestation::KeyVariables variables;
  // The keeper answers, but its TPM gave no key or quote: a guest can see to that, with objects
  // that it leaves loaded or a hierarchy that it switches off. `evidence` has no quote then, and
  // `record` is as long as it was when it was read.
  std::optional<Error> no_quote;
  // Only beside `no_quote`: the keeper still waits for its TPM.
  std::optional<Error> no_variables;
};

// All of it belongs to one boot. kUnavailable, kTimeout: the keeper is away; kConflict: the VM was
// reset time and again meanwhile.
Result<KeeperEvidence> read_keeper(const std::string& control_socket, ByteSpan nonce);

// The power-on that is under way, as the keeper names it. kUnavailable, kTimeout: it is away.
Result<std::string> read_boot_id(const std::string& control_socket);

// How long a guest may take for an answer.
inline constexpr std::chrono::milliseconds kAgentLimit{2000};
// The boot event log of a Linux guest. kUnavailable: no agent; kConflict: it gives none; kTimeout:
// not within hypervisor::kGuestFileLimit.
Result<Bytes> read_guest_log(hypervisor::GuestAgent& agent);

}  // namespace hf::control
