// What a boot's measurements say about Secure Boot, signers and the kernel's command line. Only
// from proven bytes and recognised digests (measured_boot.h).
#pragma once

#include "attestation/boot/measured_boot.h"

namespace hf::attestation {

// Who vouched for a program that was loaded.
struct Authority {
  std::string source;       // "db", "MokListRT", "Shim", "vendor_db"
  ByteSpan certificate;     // DER; empty if a digest vouched
  std::string common_name;  // of the certificate, else its subject; "SHA-256 …" for a digest
  ByteSpan subject;         // RFC 2253
  Digest fingerprint;       // SHA-256 of the certificate, or the digest itself
  const Measurement* measurement = nullptr;
};

struct BootFacts {
  std::optional<bool> secure_boot;
  std::map<std::string, ByteSpan, std::less<>> variables;  // PK, KEK, db, dbx as measured
  std::vector<const Measurement*> authority_measurements;  // known or not
  std::vector<Authority> authorities;                      // those whose data are known
  std::vector<const Measurement*> command_lines;
  std::optional<std::string> sbat_level;    // the variable's text
  bool shim_validation_off = false;         // MokSBState
  std::vector<std::string> debug_settings;  // of Windows: "boot debugging", "test signing", …
};

BootFacts read_facts(const MeasuredBoot& boot);
// Reads the certificate of an authority's data; nullopt if it is not one that we know the form of.
std::optional<Authority> read_authority(const Measurement& measurement);

}  // namespace hf::attestation
