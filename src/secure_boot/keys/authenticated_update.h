// Authenticated updates: what SetVariable takes for PK, KEK, db and dbx, and what Microsoft and
// uefi.org publish as dbx update files (UEFI Specification 2.10, 8.2.2).
//
//   EFI_TIME | WIN_CERTIFICATE_UEFI_GUID { u32 length, 0x0200, 0x0ef1, PKCS7 GUID } | SignedData
//   | the variable's new value, or what is appended to it
//
// SignedData signs: name (UTF-16LE, without NUL) ‖ vendor ‖ attributes ‖ time ‖ value. Verification
// is the firmware's: SHA-256; an update of PK or KEK by the PK, one of db or dbx by a certificate
// that chains to the KEK; validity in time is not judged. The time must rise, but for an append.
#pragma once

#include <optional>
#include <string>

#include "base/bytes.h"
#include "base/result.h"
#include "crypto/key_pair.h"
#include "secure_boot/efi/efi_time.h"
#include "secure_boot/keys/signature_list.h"
#include "secure_boot/keys/variable_store.h"

namespace hf::secure_boot {

inline constexpr size_t kUpdateBytesMax = size_t{1} << 20;

struct AuthenticatedUpdate {
  EfiTime time;
  Bytes signed_data;  // PKCS #7, with or without ContentInfo around it
  Bytes value;
};

// Whether the bytes begin as an update does; a signature list never does.
bool looks_like_update(ByteSpan bytes);
// kCorrupt, kUnsupported (another kind of certificate), kLimit.
Result<AuthenticatedUpdate> parse_update(ByteSpan bytes);
Bytes to_bytes(const AuthenticatedUpdate& update);

// One of the four variables.
enum class KeyVariable { kPk, kKek, kDb, kDbx };
struct KeyVariableName {
  KeyVariable variable;
  Guid vendor;
  std::string_view name;
};
const KeyVariableName& name_of(KeyVariable variable);
std::optional<KeyVariable> key_variable(std::string_view name);

enum class UpdateKind { kReplace, kAppend };

// Who vouches for an update: the certificate of PK or KEK to which its signer chains.
struct UpdateAuthority {
  std::string certificate;  // in words
  std::string signer;
};
// kWrongKey: by nobody whom this variable obeys. kCorrupt: the signature cannot be read.
// kUnsupported: another digest than SHA-256.
Result<UpdateAuthority> verify_update(const AuthenticatedUpdate& update, KeyVariable variable,
                                      UpdateKind kind, const SignatureDatabase& authorities);

struct UpdateSigner {
  const crypto::KeyPair& key;
  ByteSpan certificate;  // DER, of that key
};
// `value` is EFI_SIGNATURE_LISTs. kInvalidArgument: the certificate is not the key's.
Result<AuthenticatedUpdate> sign_update(KeyVariable variable, UpdateKind kind, const EfiTime& time,
                                        ByteSpan value, const UpdateSigner& signer);

// What the update is of, found from the signature: variable and kind are part of what is signed.
// kWrongKey: it is signed for nothing that these keys obey.
struct UpdateTarget {
  KeyVariable variable{};
  UpdateKind kind{};
};
Result<UpdateTarget> update_target(ByteSpan update, const SecureBootVariables& keys);

struct AppliedUpdate {
  KeyVariable variable{};
  UpdateKind kind{};
  // Without a certificate: the store is in setup mode, and the signature was not asked for.
  UpdateAuthority authority;
  size_t added = 0;  // signatures
  size_t total = 0;  // in the variable now
};
// Verifies the update against the store's own PK or KEK and applies it as the firmware would. The
// kind is found from the signature, and so is the variable if none is given. kConflict: an older
// time than the variable's.
//
// Without a PK firmware is in setup mode: it takes KEK, db and dbx from anybody, of any time, and a
// PK that its own key has signed (edk2, AuthVariableLib, ProcessVarWithPk(), ProcessVarWithKek()).
// Here the signature still says of what and of which kind the update is: kConflict if it does not.
Result<AppliedUpdate> apply_update(VariableStore& store, std::optional<KeyVariable> variable,
                                   ByteSpan update);

}  // namespace hf::secure_boot
