// What the vault is told to sign of an appraisal's result.
#pragma once

#include "attestation/token/ear.h"
#include "vault/protocol/verdict_claims.h"

namespace hf::control {

// `ear` as to_ear() makes it, with its times. What is longer than the vault takes is cut.
vault::VerdictClaims claims_of(const attestation::Ear& ear);

}  // namespace hf::control
