// PCR 7 before it is measured: what the next boot will extend after a change of PK, KEK, db or dbx.
//
// Firmware measures SecureBoot, PK, KEK, db and dbx, each as the hash of its UEFI_VARIABLE_DATA,
// then a separator; later, once each, the entry that vouched for a program (TCG PC Client Platform
// Firmware Profile 1.05, 3.3.4.8; edk2: Tcg2Dxe.c, DxeImageVerificationLib's Measurement.c). shim
// does the same for what it verifies itself, and adds its own state (shim: tpm.c, mok.c). So the
// next list is the last one with the changed variables put in, and with each entry of db that
// vouched replaced by the one that will vouch: that is the preflight's knowledge, by image and
// signature.
#pragma once

#include <string>
#include <vector>

#include "attestation/baseline/baseline.h"
#include "attestation/boot/measured_boot.h"
#include "secure_boot/image/image_verification.h"

namespace hf::attestation {

struct Pcr7Input {
  const MeasuredBoot* previous = nullptr;  // never null; read with the variables it measured
  KeyVariables before;                     // what it measured
  KeyVariables after;                      // what the next boot will; names that are absent stay
  // What vouches for each program in boot order, with the keys before and with those after
  // (PreflightReport::authorities()). Both empty: not known, and db may then only grow.
  std::vector<secure_boot::Authority> authorities_before;
  std::vector<secure_boot::Authority> authorities_after;
};

struct Pcr7Prediction {
  HashAlg bank = HashAlg::kSha256;
  std::vector<BaselineEntry> entries;
  Bytes value;  // of the register when the operating system starts
  // False: a program might be vouched for by an entry that is new in db; or one entry vouched for
  // several programs that will be vouched for by different ones, and the order is a guess; or two
  // entries vouched for programs that one will vouch for, and it may be measured once.
  bool certain = true;
  std::vector<std::string> changes;  // in words
};

// kConflict: a program that started before will not start; or db loses an entry that vouches, and
// what vouches instead is not known. kNotFound: the previous boot did not measure `before`.
Result<Pcr7Prediction> predict_pcr7(const Pcr7Input& input);

// The announcement of such a change, for the baseline.
PlannedChange key_change(const Pcr7Prediction& prediction, const KeyVariables& after,
                         std::string why, Micros expires);

}  // namespace hf::attestation
