// The keys a vTPM is made with, as templates, and the few commands that make them. The same
// template and hierarchy give the same key in the same TPM, always: primary keys come from its
// seeds, and TPM2_Clear spares the endorsement seed. So what the guest evicted can be made again.
#pragma once

#include "vtpm/engine.h"

namespace hf::vtpm {

// TPMT_PUBLIC each. TCG EK Credential Profile for TPM 2.0: L-1, H-3.
Bytes ek_rsa_template();
Bytes ek_ecc_template();
Bytes srk_template();
// RSA-2048, RSASSA with SHA-256, restricted to signing what the TPM itself made; no authorization
// value, no dictionary-attack protection (0x00050472). Its `unique` is "holdfast attestation key
// v1", so that a guest's own key of the usual template is another one.
Bytes attestation_key_template();

struct PrimaryKey {
  uint32_t handle = 0;  // transient: to be flushed
  Bytes public_area;    // TPMT_PUBLIC
};
// With the hierarchy's empty authorization.
Result<PrimaryKey> create_primary(const SendCommand& send, uint32_t hierarchy, ByteSpan area);
// TPM2_EvictControl under owner authorization, which serves all but the platform's keys.
Status persist(const SendCommand& send, uint32_t handle, uint32_t persistent);
Status flush(const SendCommand& send, uint32_t handle);

}  // namespace hf::vtpm
