#include "vtpm/attestation_key.h"

#include <fmt/format.h>

#include <algorithm>

#include "crypto/crypto.h"
#include "crypto/secret.h"
#include "vtpm/key_templates.h"

namespace hf::vtpm {
namespace {

constexpr uint32_t kCapPcrs = 5;  // TPM_CAP_PCRS
constexpr uint8_t kSessionPolicy = 1;
constexpr size_t kPcrsPerRead = 8;  // TPML_DIGEST
constexpr size_t kBanksMax = 16;
constexpr size_t kNvChunk = 1024;
constexpr size_t kSessionNonceSize = 16;
constexpr size_t kEmptyAuthorization = 9;  // handle, nonce, attributes, value: nothing in the two

// Format-one codes (bit 7) carry the number of the handle, session or parameter that they are
// about.
uint32_t without_place(uint32_t code) { return (code & 0x80) != 0 ? code & 0xBF : code; }
constexpr uint32_t kRcHandle = 0x08B;
constexpr uint32_t kRcIntegrity = 0x09F;
constexpr uint32_t kRcValue = 0x084;
constexpr uint32_t kRcSize = 0x095;

bool is_passing(uint32_t code) {
  constexpr uint32_t kPassing[] = {kRcObjectMemory,  kRcSessionMemory, kRcMemory,
                                   kRcObjectHandles, kRcYielded,       kRcCanceled,
                                   kRcTesting,       kRcNvRate,        kRcRetry};
  return std::ranges::find(kPassing, code) != std::end(kPassing);
}

Error as_error(uint32_t code, std::string_view doing) {
  if (is_passing(code)) {
    return Error{
        .code = ErrorCode::kTimeout,
        .cause = fmt::format("{}: the vTPM is busy with the guest's keys (0x{:03x})", doing, code)};
  }
  if (code == kRcInitialize) {
    return Error{.code = ErrorCode::kUnavailable,
                 .cause = fmt::format("{}: the firmware has not started the vTPM up yet", doing)};
  }
  return Error{.code = ErrorCode::kUnavailable,
               .cause = fmt::format("{}: the vTPM answered 0x{:03x}", doing, code)};
}

constexpr uint32_t kRcHierarchy = 0x085;
constexpr uint32_t kRcAuthFail = 0x08E;
constexpr uint32_t kRcBadAuth = 0x0A2;

// Of a command that the endorsement hierarchy has to authorize. The guest is its owner: it may set
// a password that only it knows, or switch the hierarchy off until the next reset.
Error endorsement_error(uint32_t code, std::string_view doing) {
  const uint32_t what = without_place(code);
  if (what == kRcBadAuth || what == kRcAuthFail) {
    return Error{
        .code = ErrorCode::kUnavailable,
        .cause = fmt::format("{}: the guest has set a password on the vTPM's endorsement hierarchy "
                             "(0x{:03x})",
                             doing, code),
        .effect =
            "what needs that password, such as a key whose persistent copy was evicted, "
            "cannot be used",
        .mend =
            "take the password off in the guest (tpm2_changeauth -c endorsement -p PASSWORD; the "
            "owner's too, if it has one), then holdfast attest check VM: that makes the persistent "
            "copy again, and the passwords may be set anew as long as it stays"};
  }
  if (what == kRcHierarchy) {
    return Error{
        .code = ErrorCode::kUnavailable,
        .cause = fmt::format("{}: the guest has switched the vTPM's endorsement hierarchy off "
                             "(0x{:03x})",
                             doing, code),
        .effect = "the vTPM's keys cannot be used until the VM restarts",
        .mend =
            "restart the VM, which switches it on again, and find out what in the guest switches "
            "it "
            "off (TPM2_HierarchyControl)"};
  }
  return as_error(code, doing);
}

struct Answer {
  uint32_t code = 0;
  Bytes body;  // after the header
};

Result<Answer> ask(const SendCommand& send, const Bytes& command) {
  // TPM_RC_RETRY: sent again at once, as drivers do; what else is passing needs the guest's help.
  for (int attempt = 0;; ++attempt) {
    const Bytes response = TRY(send(command));
    const ResponseHeader header = TRY(parse_response_header(response));
    if (header.code == kRcRetry && attempt < 3) continue;
    return Answer{.code = header.code,
                  .body = Bytes(response.begin() + kTpmHeaderSize, response.end())};
  }
}

Result<Bytes> ask_for(const SendCommand& send, const Bytes& command, std::string_view doing) {
  Answer answer = TRY(ask(send, command));
  if (answer.code != kRcSuccess) return as_error(answer.code, doing);
  return std::move(answer.body);
}

// The parameters behind their size, without the sessions' part.
Result<Bytes> parameters(const Bytes& body) {
  ResponseReader reader(body);
  const ByteSpan inside = TRY(reader.raw(TRY(reader.u32())));
  return Bytes(inside.begin(), inside.end());
}

Bytes name_of(ByteSpan area) {
  const Digest digest = crypto::sha256(area);  // nameAlg of both our templates
  Bytes name{std::byte{0x00}, std::byte{0x0B}};
  name.insert(name.end(), digest.bytes.begin(), digest.bytes.end());
  return name;
}

// The public area of the key at a persistent handle; nothing if there is none.
Result<std::optional<Bytes>> read_public(const SendCommand& send, uint32_t handle) {
  const Answer answer =
      TRY(ask(send, CommandBuilder(kTagNoSessions, kCcReadPublic).u32(handle).finish()));
  if (without_place(answer.code) == kRcHandle) return std::optional<Bytes>();
  if (answer.code != kRcSuccess) return as_error(answer.code, "read a key's public area");
  ResponseReader reader(answer.body);
  const ByteSpan area = TRY(reader.sized());
  return std::optional<Bytes>(Bytes(area.begin(), area.end()));
}

Result<PrimaryKey> make_again(const SendCommand& send, ByteSpan area) {
  const Bytes command = CommandBuilder(kTagSessions, kCcCreatePrimary)
                            .u32(kHandleEndorsement)
                            .password()
                            .u16(4)
                            .u16(0)
                            .u16(0)
                            .sized(area)
                            .u16(0)
                            .u32(0)
                            .finish();
  const Answer answer = TRY(ask(send, command));
  if (answer.code != kRcSuccess) {
    return endorsement_error(answer.code, "make a key of the endorsement hierarchy");
  }
  ResponseReader reader(answer.body);
  PrimaryKey key{.handle = TRY(reader.u32()), .public_area = {}};
  TRY(reader.u32());
  const ByteSpan made = TRY(reader.sized());
  key.public_area.assign(made.begin(), made.end());
  return key;
}

// A key to use: its persistent copy if that is the key expected, else made again for the time.
class UsableKey {
 public:
  static Result<UsableKey> find(const SendCommand& send, uint32_t persistent, const Bytes& area,
                                ByteSpan expected_name) {
    const std::optional<Bytes> there = TRY(read_public(send, persistent));
    if (there && std::ranges::equal(name_of(*there), expected_name)) {
      return UsableKey(nullptr, persistent);
    }
    const PrimaryKey made = TRY(make_again(send, area));
    UsableKey key(&send, made.handle);
    if (std::ranges::equal(name_of(made.public_area), expected_name)) return key;
    return Error{.code = ErrorCode::kWrongKey,
                 .cause = fmt::format("the vTPM's key is {}, and {} is expected",
                                      to_hex(name_of(made.public_area)), to_hex(expected_name)),
                 .effect = "nothing was signed or opened with it",
                 .mend = "find out whose vTPM state the VM runs on"};
  }
  UsableKey(UsableKey&& other) noexcept
      : send_(std::exchange(other.send_, nullptr)), handle_(other.handle_) {}
  UsableKey& operator=(UsableKey&&) = delete;
  ~UsableKey() {
    if (send_ != nullptr) (void)flush(*send_, handle_).ok();
  }
  uint32_t handle() const { return handle_; }

 private:
  UsableKey(const SendCommand* send, uint32_t handle) : send_(send), handle_(handle) {}
  const SendCommand* send_;  // null: nothing to flush
  uint32_t handle_;
};

Result<std::optional<Bytes>> read_certificate(const SendCommand& send, uint32_t index) {
  const Answer described =
      TRY(ask(send, CommandBuilder(kTagNoSessions, kCcNvReadPublic).u32(index).finish()));
  if (without_place(described.code) == kRcHandle) return std::optional<Bytes>();
  if (described.code != kRcSuccess) return as_error(described.code, "read the EK's certificate");
  ResponseReader reader(described.body);
  ResponseReader area(TRY(reader.sized()));
  TRY(area.raw(4 + 2 + 4));  // index, nameAlg, attributes
  TRY(area.sized());         // policy
  const size_t size = TRY(area.u16());
  if (size == 0 || size > kCertificateSizeMax) return std::optional<Bytes>();
  Bytes certificate;
  while (certificate.size() < size) {
    const auto part = static_cast<uint16_t>(std::min(kNvChunk, size - certificate.size()));
    const Bytes body = TRY(ask_for(send,
                                   CommandBuilder(kTagSessions, kCcNvRead)
                                       .u32(index)
                                       .u32(index)
                                       .password()
                                       .u16(part)
                                       .u16(static_cast<uint16_t>(certificate.size()))
                                       .finish(),
                                   "read the EK's certificate"));
    const Bytes inside = TRY(parameters(body));
    ResponseReader chunk(inside);
    const ByteSpan bytes = TRY(chunk.sized());
    if (bytes.size() != part) return Error{.code = ErrorCode::kCorrupt, .cause = "a short NV read"};
    certificate.insert(certificate.end(), bytes.begin(), bytes.end());
  }
  return std::optional<Bytes>(std::move(certificate));
}

Result<Bytes> read_ek(const SendCommand& send) {
  std::optional<Bytes> there = TRY(read_public(send, kEkRsaHandle));
  if (there) return *std::move(there);
  const PrimaryKey made = TRY(make_again(send, ek_rsa_template()));
  TRY(flush(send, made.handle));
  return made.public_area;
}

Result<Bytes> read_or_make_ak(const SendCommand& send, std::optional<ByteSpan> expected_name) {
  std::optional<Bytes> there = TRY(read_public(send, kAttestationKeyHandle));
  if (there && (!expected_name || std::ranges::equal(name_of(*there), *expected_name))) {
    return *std::move(there);
  }
  const PrimaryKey made = TRY(make_again(send, attestation_key_template()));
  // Refused if the guest has set an owner's password; then it is made again each time.
  if (!there) (void)persist(send, made.handle, kAttestationKeyHandle).ok();
  TRY(flush(send, made.handle));
  return made.public_area;
}

void select(CommandBuilder& command, uint16_t bank, std::span<const uint8_t> pcrs) {
  std::array<uint8_t, 3> octets{};
  for (const uint8_t pcr : pcrs) {
    octets[pcr / 8] = static_cast<uint8_t>(octets[pcr / 8] | 1U << (pcr % 8));
  }
  command.u16(bank).u8(3).u8(octets[0]).u8(octets[1]).u8(octets[2]);
}

Result<PcrSelection> allocated_pcrs(const SendCommand& send) {
  const Bytes body = TRY(ask_for(
      send, CommandBuilder(kTagNoSessions, kCcGetCapability).u32(kCapPcrs).u32(0).u32(1).finish(),
      "read the PCR banks"));
  ResponseReader reader(body);
  TRY(reader.raw(1 + 4));  // more data, capability
  const uint32_t count = TRY(reader.u32());
  if (count > kBanksMax) return Error{.code = ErrorCode::kCorrupt, .cause = "too many PCR banks"};
  PcrSelection banks;
  for (uint32_t i = 0; i < count; ++i) {
    const uint16_t bank = TRY(reader.u16());
    const ByteSpan octets = TRY(reader.raw(TRY(reader.u8())));
    for (size_t pcr = 0; pcr < octets.size() * 8; ++pcr) {
      const bool on = (std::to_integer<unsigned>(octets[pcr / 8]) >> (pcr % 8) & 1) != 0;
      if (on) banks[bank].push_back(static_cast<uint8_t>(pcr));
    }
  }
  return banks;
}

Result<PcrValues> read_selected(const SendCommand& send, const PcrSelection& selection) {
  PcrValues values;
  for (const auto& [bank, pcrs] : selection) {
    std::vector<uint8_t> sorted = pcrs;
    std::ranges::sort(sorted);
    for (size_t at = 0; at < sorted.size(); at += kPcrsPerRead) {
      const auto part = std::span(sorted).subspan(at, std::min(kPcrsPerRead, sorted.size() - at));
      CommandBuilder command(kTagNoSessions, kCcPcrRead);
      command.u32(1);
      select(command, bank, part);
      const Bytes body = TRY(ask_for(send, command.finish(), "read PCRs"));
      ResponseReader reader(body);
      TRY(reader.raw(4 + 4 + 2));         // update counter, one selection, its bank
      TRY(reader.raw(TRY(reader.u8())));  // its octets
      if (TRY(reader.u32()) != part.size()) {
        return Error{.code = ErrorCode::kInvalidArgument,
                     .cause = fmt::format("PCR bank 0x{:04x} is not allocated", bank)};
      }
      for (const uint8_t pcr : part) {
        const ByteSpan value = TRY(reader.sized());
        values[bank][pcr].assign(value.begin(), value.end());
      }
    }
  }
  return values;
}

// A policy session in which PolicySecret(TPM_RH_ENDORSEMENT) was given: what the EK asks for.
class EkSession {
 public:
  static Result<EkSession> start(const SendCommand& send, ByteSpan nonce) {
    const Bytes body = TRY(ask_for(send,
                                   CommandBuilder(kTagNoSessions, kCcStartAuthSession)
                                       .u32(kHandleNull)  // not salted
                                       .u32(kHandleNull)  // not bound
                                       .sized(nonce)
                                       .u16(0)
                                       .u8(kSessionPolicy)
                                       .u16(kAlgNull)
                                       .u16(kAlgSha256)
                                       .finish(),
                                   "start a session"));
    ResponseReader reader(body);
    EkSession session(send, TRY(reader.u32()));
    const Answer answer = TRY(ask(send, CommandBuilder(kTagSessions, kCcPolicySecret)
                                            .u32(kHandleEndorsement)
                                            .u32(session.handle_)
                                            .password()
                                            .u16(0)  // nonceTPM
                                            .u16(0)  // cpHash
                                            .u16(0)  // policyRef
                                            .u32(0)  // does not expire
                                            .finish()));
    if (answer.code != kRcSuccess) {
      return endorsement_error(answer.code, "authorize the endorsement key");
    }
    return session;
  }
  EkSession(EkSession&& other) noexcept
      : send_(std::exchange(other.send_, nullptr)), handle_(other.handle_) {}
  EkSession& operator=(EkSession&&) = delete;
  ~EkSession() {
    if (send_ != nullptr) (void)flush(*send_, handle_).ok();
  }
  uint32_t handle() const { return handle_; }
  void used_up() { send_ = nullptr; }  // without continueSession the TPM flushes it

 private:
  EkSession(const SendCommand& send, uint32_t handle) : send_(&send), handle_(handle) {}
  const SendCommand* send_;
  uint32_t handle_;
};

bool is_sized(ByteSpan bytes) {
  return bytes.size() >= 2 && bytes.size() <= 1024 &&
         load_be<uint16_t>(bytes.data()) == bytes.size() - 2;
}

}  // namespace

Result<TpmIdentity> read_identity(const SendCommand& send, std::optional<ByteSpan> expected_name) {
  TpmIdentity identity;
  identity.ek_public = TRY(read_ek(send));
  identity.ek_certificate = TRY(read_certificate(send, kEkRsaCertificateIndex));
  identity.ak_public = TRY(read_or_make_ak(send, expected_name));
  identity.ak_name = name_of(identity.ak_public);
  return identity;
}

Result<Quote> quote(const SendCommand& send, const TpmIdentity& identity, ByteSpan nonce,
                    const PcrSelection& selection) {
  if (nonce.empty() || nonce.size() > kQuoteNonceMax) {
    return Error{.code = ErrorCode::kInvalidArgument, .cause = "a nonce has 1 to 64 bytes"};
  }
  if (selection.empty() || selection.size() > kBanksMax) {
    return Error{.code = ErrorCode::kInvalidArgument, .cause = "no PCR is selected"};
  }
  for (const auto& [bank, pcrs] : selection) {
    if (pcrs.empty() || std::ranges::any_of(pcrs, [](uint8_t pcr) { return pcr > 23; })) {
      return Error{.code = ErrorCode::kInvalidArgument, .cause = "PCRs are numbered 0 to 23"};
    }
  }
  const UsableKey key = TRY(
      UsableKey::find(send, kAttestationKeyHandle, attestation_key_template(), identity.ak_name));
  CommandBuilder command(kTagSessions, kCcQuote);
  command.u32(key.handle()).password().sized(nonce).u16(kAlgNull);  // the key's own scheme
  command.u32(static_cast<uint32_t>(selection.size()));
  for (const auto& [bank, pcrs] : selection) select(command, bank, pcrs);
  const Bytes body = TRY(ask_for(send, command.finish(), "quote"));
  const Bytes inside = TRY(parameters(body));
  ResponseReader reader(inside);
  const ByteSpan attest = TRY(reader.sized());
  Quote made{.attest = Bytes(attest.begin(), attest.end()),
             .signature = Bytes(reader.rest().begin(), reader.rest().end()),
             .pcrs = {}};
  made.pcrs = TRY(read_selected(send, selection));
  return made;
}

Result<Bytes> activate_credential(const SendCommand& send, const TpmIdentity& identity,
                                  ByteSpan id_object, ByteSpan encrypted_secret, ByteSpan nonce) {
  HF_ASSERT(nonce.size() >= kSessionNonceSize && nonce.size() <= 32);
  if (!is_sized(id_object) || !is_sized(encrypted_secret)) {
    return Error{.code = ErrorCode::kInvalidArgument,
                 .cause = "not a TPM2B_ID_OBJECT and a TPM2B_ENCRYPTED_SECRET"};
  }
  const UsableKey ak = TRY(
      UsableKey::find(send, kAttestationKeyHandle, attestation_key_template(), identity.ak_name));
  const UsableKey ek =
      TRY(UsableKey::find(send, kEkRsaHandle, ek_rsa_template(), name_of(identity.ek_public)));
  EkSession session = TRY(EkSession::start(send, nonce));
  CommandBuilder command(kTagSessions, kCcActivateCredential);
  command.u32(ak.handle()).u32(ek.handle());
  command.u32(2 * kEmptyAuthorization);
  for (const uint32_t authorization : {kHandlePassword, session.handle()}) {
    command.u32(authorization).u16(0).u8(0).u16(0);
  }
  command.raw(id_object).raw(encrypted_secret);
  const Answer answer = TRY(ask(send, command.finish()));
  const uint32_t code = without_place(answer.code);
  if (code == kRcIntegrity || code == kRcValue || code == kRcSize) {
    return Error{.code = ErrorCode::kWrongKey,
                 .cause = "the credential was made for other keys than this vTPM's",
                 .effect = "its secret stays closed"};
  }
  if (answer.code != kRcSuccess) return as_error(answer.code, "activate the credential");
  session.used_up();
  Bytes inside = TRY(parameters(answer.body));
  ResponseReader reader(inside);
  const ByteSpan secret = TRY(reader.sized());
  Bytes out(secret.begin(), secret.end());
  crypto::wipe(inside);
  return out;
}

Result<PcrValues> read_pcrs(const SendCommand& send) {
  const PcrSelection all = TRY(allocated_pcrs(send));
  return read_selected(send, all);
}

}  // namespace hf::vtpm
