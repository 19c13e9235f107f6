#include "secure_boot/keys/authenticated_update.h"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "secure_boot/keys/certificate.h"
#include "secure_boot/keys/signed_data.h"

namespace hf::secure_boot {
namespace {

constexpr size_t kLengthAt = 16, kRevisionAt = 20, kTypeAt = 22, kCertificateGuidAt = 24;
constexpr size_t kHeaderSize = 40;
constexpr size_t kWinCertificateSize = 24;  // counted in the length
static_assert(kCertificateGuidAt + Guid::kSize == kHeaderSize);
constexpr uint16_t kRevision = 0x0200, kTypeEfiGuid = 0x0ef1;

constexpr std::array<KeyVariableName, 4> kVariables = {{
    {KeyVariable::kPk, guids::kGlobalVariable, "PK"},
    {KeyVariable::kKek, guids::kGlobalVariable, "KEK"},
    {KeyVariable::kDb, guids::kImageSecurity, "db"},
    {KeyVariable::kDbx, guids::kImageSecurity, "dbx"},
}};

Error corrupt(std::string cause) {
  return Error{.code = ErrorCode::kCorrupt, .cause = "authenticated update: " + std::move(cause)};
}

Bytes signed_content(const AuthenticatedUpdate& update, KeyVariable variable, UpdateKind kind) {
  const KeyVariableName& name = name_of(variable);
  Bytes out;
  for (char letter : name.name) {
    out.push_back(static_cast<std::byte>(letter));
    out.push_back(std::byte{0});
  }
  out.insert(out.end(), name.vendor.bytes.begin(), name.vendor.bytes.end());
  const size_t at = out.size();
  out.resize(at + 4 + EfiTime::kSize);
  store_le<uint32_t>(
      &out[at], attribute::kSecureBoot | (kind == UpdateKind::kAppend ? attribute::kAppend : 0));
  update.time.store(&out[at + 4]);
  out.insert(out.end(), update.value.begin(), update.value.end());
  return out;
}

Error not_vouched(const AuthenticatedUpdate& update, std::string_view of,
                  std::string_view authority) {
  auto data = SignedData::parse(update.signed_data);
  return Error{.code = ErrorCode::kWrongKey,
               .cause = fmt::format("the update {} signed by \"{}\", whom no certificate in this "
                                    "store's {} vouches for",
                                    of, data.ok() ? data->signers_in_words() : "nobody", authority),
               .effect = "Nothing was changed; the firmware would refuse it as well",
               .mend = "holdfast secure-boot show TARGET"};
}

struct Found {
  KeyVariable variable;
  UpdateKind kind;
  UpdateAuthority authority;
};

Result<SignatureDatabase> database_of(const VariableStore& store, KeyVariable variable) {
  const KeyVariableName& name = name_of(variable);
  const Variable* held = store.find(name.vendor, name.name);
  if (held == nullptr) return SignatureDatabase();
  return TRY_CONTEXT(SignatureDatabase::parse(held->data), std::string(name.name));
}

// What it is signed as: variable and kind are part of what is signed.
Result<Found> find_target(const SignatureDatabase& pk, const SignatureDatabase& kek,
                          std::optional<KeyVariable> wanted, const AuthenticatedUpdate& update) {
  std::optional<Error> last;
  for (KeyVariable variable :
       {KeyVariable::kDbx, KeyVariable::kDb, KeyVariable::kKek, KeyVariable::kPk}) {
    if (wanted && variable != *wanted) continue;
    const bool by_pk = variable == KeyVariable::kPk || variable == KeyVariable::kKek;
    for (UpdateKind kind : {UpdateKind::kAppend, UpdateKind::kReplace}) {
      auto authority = verify_update(update, variable, kind, by_pk ? pk : kek);
      if (authority.ok()) return Found{variable, kind, std::move(*authority)};
      if (authority.error().code != ErrorCode::kWrongKey) return authority.error();
      last = std::move(authority).error();
    }
  }
  HF_ASSERT(last.has_value());
  if (wanted) return std::move(*last);
  return not_vouched(update, "is", "PK or KEK");
}

Error not_self_signed() {
  return Error{.code = ErrorCode::kWrongKey,
               .cause = "the update of PK is not signed by the key that it brings",
               .effect = "Nothing was changed; the firmware would refuse it as well",
               .mend =
                   "holdfast secure-boot set TARGET PK FILE, which takes an update's content "
                   "on your word"};
}

// In setup mode: as what one of the certificates that it carries has signed it.
Result<Found> find_target_in_setup(std::optional<KeyVariable> wanted,
                                   const AuthenticatedUpdate& update,
                                   const SignatureDatabase& value) {
  const SignedData data = TRY(SignedData::parse(update.signed_data));
  for (KeyVariable variable :
       {KeyVariable::kDbx, KeyVariable::kDb, KeyVariable::kKek, KeyVariable::kPk}) {
    if (wanted && variable != *wanted) continue;
    for (UpdateKind kind : {UpdateKind::kAppend, UpdateKind::kReplace}) {
      const Bytes content = signed_content(update, variable, kind);
      const std::vector<Bytes> carried = data.certificates();
      const bool is_it = std::ranges::any_of(carried, [&](const Bytes& certificate) {
        return data.verify_detached(content, certificate).ok();
      });
      if (!is_it) continue;
      if (variable == KeyVariable::kPk && !value.empty()) {  // AuthVarTypePayload
        const std::vector<ByteSpan> own = value.certificates();
        if (own.empty() || !data.verify_detached(content, own.front()).ok()) {
          return not_self_signed();
        }
      }
      return Found{variable, kind, {.certificate = {}, .signer = data.signers_in_words()}};
    }
  }
  return Error{
      .code = ErrorCode::kConflict,
      .cause = fmt::format(
          "the store is in setup mode, where firmware takes an update from anybody, but "
          "the signature of this one does not say {}",
          wanted ? fmt::format("whether it replaces {} or is added to it", name_of(*wanted).name)
                 : "which variable it is of"),
      .effect = "Nothing was changed",
      .mend =
          "holdfast secure-boot append TARGET VARIABLE FILE, which takes an "
          "update's content on your word"};
}

}  // namespace

const KeyVariableName& name_of(KeyVariable variable) {
  return kVariables[static_cast<size_t>(variable)];
}

std::optional<KeyVariable> key_variable(std::string_view name) {
  const auto* found = std::ranges::find(kVariables, name, &KeyVariableName::name);
  if (found == kVariables.end()) return std::nullopt;
  return found->variable;
}

bool looks_like_update(ByteSpan bytes) {
  return bytes.size() >= kHeaderSize && load_le<uint16_t>(&bytes[kRevisionAt]) == kRevision &&
         load_le<uint16_t>(&bytes[kTypeAt]) == kTypeEfiGuid;
}

Result<AuthenticatedUpdate> parse_update(ByteSpan bytes) {
  if (bytes.size() > kUpdateBytesMax) {
    return Error{.code = ErrorCode::kLimit,
                 .cause = fmt::format("an authenticated update of {} bytes; the limit is {}",
                                      bytes.size(), kUpdateBytesMax)};
  }
  if (bytes.size() < kHeaderSize) {
    return corrupt(fmt::format("{} bytes are too few for its header", bytes.size()));
  }
  if (!looks_like_update(bytes)) return corrupt("it does not begin with one");
  if (Guid::load(&bytes[kCertificateGuidAt]) != guids::kPkcs7) {
    return Error{.code = ErrorCode::kUnsupported,
                 .cause = "authenticated update: signed in another way than PKCS #7"};
  }
  const size_t length = load_le<uint32_t>(&bytes[kLengthAt]);
  if (length < kWinCertificateSize || length > bytes.size() - kLengthAt) {
    return corrupt(
        fmt::format("its certificate of {} bytes is not within its {}", length, bytes.size()));
  }
  const ByteSpan signed_data = bytes.subspan(kHeaderSize, length - kWinCertificateSize);
  const ByteSpan value = bytes.subspan(kLengthAt + length);
  AuthenticatedUpdate update{.time = EfiTime::load(bytes.data()),
                             .signed_data = Bytes(signed_data.begin(), signed_data.end()),
                             .value = Bytes(value.begin(), value.end())};
  if (!update.time.is_plain()) {
    return corrupt("its time has a zone or parts of a second, which firmware refuses");
  }
  return update;
}

Bytes to_bytes(const AuthenticatedUpdate& update) {
  Bytes out(kHeaderSize);
  update.time.store(out.data());
  store_le<uint32_t>(&out[kLengthAt],
                     static_cast<uint32_t>(kWinCertificateSize + update.signed_data.size()));
  store_le<uint16_t>(&out[kRevisionAt], kRevision);
  store_le<uint16_t>(&out[kTypeAt], kTypeEfiGuid);
  guids::kPkcs7.store(&out[kCertificateGuidAt]);
  out.insert(out.end(), update.signed_data.begin(), update.signed_data.end());
  out.insert(out.end(), update.value.begin(), update.value.end());
  return out;
}

Result<UpdateAuthority> verify_update(const AuthenticatedUpdate& update, KeyVariable variable,
                                      UpdateKind kind, const SignatureDatabase& authorities) {
  const SignedData data = TRY(SignedData::parse(update.signed_data));
  const Bytes content = signed_content(update, variable, kind);
  const bool by_pk = variable == KeyVariable::kPk || variable == KeyVariable::kKek;
  for (ByteSpan certificate : authorities.certificates()) {
    // The PK must sign itself, or stand in the chain that the update carries.
    if (by_pk && !data.carries(certificate)) continue;
    auto signer = data.verify_detached(content, certificate);
    if (!signer.ok()) continue;
    auto facts = read_certificate(certificate);
    return UpdateAuthority{.certificate = facts.ok() ? words(*facts) : "(unreadable)",
                           .signer = *signer};
  }
  return not_vouched(update, fmt::format("of {} is", name_of(variable).name), by_pk ? "PK" : "KEK");
}

Result<AuthenticatedUpdate> sign_update(KeyVariable variable, UpdateKind kind, const EfiTime& time,
                                        ByteSpan value, const UpdateSigner& signer) {
  const SignatureDatabase lists = TRY(SignatureDatabase::parse(value));
  TRY(check_firmware_takes(lists, variable == KeyVariable::kPk));
  AuthenticatedUpdate update{.time = time, .value = Bytes(value.begin(), value.end())};
  HF_ASSERT(time.is_plain());
  update.signed_data =
      TRY(sign_detached(signed_content(update, variable, kind), signer.key, signer.certificate));
  return update;
}

Result<UpdateTarget> update_target(ByteSpan bytes, const SecureBootVariables& keys) {
  const AuthenticatedUpdate update = TRY(parse_update(bytes));
  auto database = [](const std::optional<Bytes>& lists) {
    return lists ? SignatureDatabase::parse(*lists)
                 : Result<SignatureDatabase>(SignatureDatabase());
  };
  const Found found =
      TRY(find_target(TRY_CONTEXT(database(keys.pk), "PK"), TRY_CONTEXT(database(keys.kek), "KEK"),
                      std::nullopt, update));
  return UpdateTarget{.variable = found.variable, .kind = found.kind};
}

Result<AppliedUpdate> apply_update(VariableStore& store, std::optional<KeyVariable> variable,
                                   ByteSpan bytes) {
  const AuthenticatedUpdate update = TRY(parse_update(bytes));
  const SignatureDatabase value = TRY_CONTEXT(SignatureDatabase::parse(update.value), "update");
  const bool setup = store.find(guids::kGlobalVariable, "PK") == nullptr;
  const Found found =
      setup ? TRY(find_target_in_setup(variable, update, value))
            : TRY(find_target(TRY(database_of(store, KeyVariable::kPk)),
                              TRY(database_of(store, KeyVariable::kKek)), variable, update));
  TRY(check_firmware_takes(value, found.variable == KeyVariable::kPk));
  const KeyVariableName& name = name_of(found.variable);
  const Variable* held = store.find(name.vendor, name.name);
  const bool append = found.kind == UpdateKind::kAppend;
  if (held != nullptr && !setup && !append && !later(update.time, held->time)) {
    return Error{.code = ErrorCode::kConflict,
                 .cause = fmt::format("the update is of {}, and {} is of {}", update.time.text(),
                                      name.name, held->time.text()),
                 .effect = "Nothing was changed; an update must be newer than what it replaces",
                 .mend =
                     "holdfast secure-boot set TARGET VARIABLE FILE, which takes an update's "
                     "content on your word"};
  }
  AppliedUpdate applied{
      .variable = found.variable, .kind = found.kind, .authority = found.authority};
  SignatureDatabase result = append ? TRY(database_of(store, found.variable)) : SignatureDatabase();
  applied.added = result.append(value);
  applied.total = result.size();
  if (result.empty()) {  // a replacement without a value deletes
    store.remove(name.vendor, name.name);
    return applied;
  }
  Variable next{.vendor = name.vendor,
                .name = utf16(name.name),
                .attributes = attribute::kSecureBoot,
                .data = result.to_bytes(),
                .time = update.time};
  if (held != nullptr && append && later(held->time, next.time)) next.time = held->time;
  TRY(store.set(next));
  return applied;
}

}  // namespace hf::secure_boot
