// The vTPM's manufacture with the site's vault as the issuer of its EK certificates.
#pragma once

#include "vault/protocol/client.h"
#include "vtpm/manufacture.h"

namespace hf::keeper {

class VaultIssuer final : public vtpm::CertificateIssuer {
 public:
  VaultIssuer(const VmId& vm, vault::KeyClient& vault) : vm_(vm), vault_(vault) {}
  Result<Bytes> endorsement_certificate(const vtpm::EkPublic& key) override;
  Result<std::optional<Bytes>> platform_certificate(const vtpm::EkPublic& rsa_key) override;

 private:
  VmId vm_;
  vault::KeyClient& vault_;
};

// Makes a new TPM into `store`: only at VM creation, when there is no state yet.
Status manufacture_vtpm(const VmId& vm, const std::vector<uint16_t>& pcr_banks,
                        vtpm::StateStore& store, vault::KeyClient& vault);

// SubjectPublicKeyInfo, DER.
Result<Bytes> subject_public_key_info(const vtpm::EkPublic& key);

}  // namespace hf::keeper
