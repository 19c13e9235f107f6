#include "keeper/service/attestation_service.h"

namespace hf::keeper {
namespace {

constexpr size_t kBootWaitsMax = 8;  // connections that it may hold
namespace kp = keeper_protocol;

template <typename Asked, typename... OneOf>
inline constexpr bool kAmong = (std::is_same_v<Asked, OneOf> || ...);
template <typename Asked>
inline constexpr bool kAsksTpm = kAmong<Asked, kp::Measurements, kp::Pcrs, kp::AttestationKey,
                                        kp::ActivateCredential, kp::Quote>;
template <typename Asked>
inline constexpr bool kAsksStore =
    kAmong<Asked, kp::SecureBoot, kp::SecureBootEdit, kp::SecureBootSave, kp::SecureBootRestore,
           kp::SecureBootForget>;
template <typename Asked>
inline constexpr bool kAsksRecord = kAmong<Asked, kp::AttestationPut, kp::AttestationGet>;

Error lacks(std::string_view what) {
  return Error{.code = ErrorCode::kUnsupported, .cause = "the VM has no " + std::string(what)};
}

Result<sys::JsonObject> ask(TpmAttestation& tpm, const kp::Pcrs&) { return tpm.pcrs(); }
Result<sys::JsonObject> ask(TpmAttestation& tpm, const kp::AttestationKey&) {
  return tpm.attestation_key();
}
Result<sys::JsonObject> ask(TpmAttestation& tpm, const kp::ActivateCredential& asked) {
  return encode_reply(TRY(tpm.activate_credential(asked)));
}
Result<sys::JsonObject> ask(TpmAttestation& tpm, const kp::Quote& asked) {
  return tpm.quote(asked);
}

Result<sys::JsonObject> ask(VariableStoreEditor& store, const kp::SecureBoot&) {
  return store.show();
}
Result<sys::JsonObject> ask(VariableStoreEditor& store, const kp::SecureBootEdit& asked) {
  return store.edit(asked.changes);
}
Result<sys::JsonObject> ask(VariableStoreEditor& store, const kp::SecureBootSave& asked) {
  TRY(store.save(asked.name));
  return sys::JsonObject{};
}
Result<sys::JsonObject> ask(VariableStoreEditor& store, const kp::SecureBootRestore& asked) {
  TRY(store.restore(asked.name));
  return sys::JsonObject{};
}
Result<sys::JsonObject> ask(VariableStoreEditor& store, const kp::SecureBootForget& asked) {
  TRY(store.forget(asked.name));
  return sys::JsonObject{};
}

}  // namespace

AttestationService::~AttestationService() {
  if (recorder_ != nullptr) recorder_->set_on_boot(nullptr);
  reactor_.disarm(*this);
}

bool AttestationService::takes(const kp::Question& question) {
  return std::visit(
      []<typename Asked>(const Asked&) {
        return kAsksTpm<Asked> || kAsksStore<Asked> || kAsksRecord<Asked> ||
               kAmong<Asked, kp::BootFiles>;
      },
      question);
}

void AttestationService::start() {
  worker_.start();
  if (boot_files_ != nullptr) boot_files_->start();
}

void AttestationService::stop() {
  if (boot_files_ != nullptr) boot_files_->stop();
  worker_.stop();
}

void AttestationService::set_tpm(std::unique_ptr<TpmAttestation> tpm,
                                 vtpm::ExtendRecorder& recorder) {
  tpm_ = std::move(tpm);
  recorder_ = &recorder;
  recorder.set_on_boot([&reactor = reactor_, self = std::weak_ptr(self_)] {
    reactor.post([self] {
      if (auto alive = self.lock()) (*alive)->answer_waits();
    });
  });
}

void AttestationService::set_store(volume::FlashVolume& flash, std::function<size_t()> clients) {
  store_ = std::make_unique<VariableStoreEditor>(
      VariableStoreEditor::Parts{.reactor = reactor_,
                                 .flash = flash,
                                 .clients = std::move(clients),
                                 .writer = writer_,
                                 .items = items_,
                                 .clock = clock_});
}

void AttestationService::set_boot_disk(volume::FlashVolume& flash, VolumeId disk,
                                       uint64_t size_bytes) {
  boot_files_ = std::make_unique<BootFiles>(BootFiles::Parts{.reactor = reactor_,
                                                             .front = front_,
                                                             .flash = flash,
                                                             .disk = disk,
                                                             .size_bytes = size_bytes});
}

void AttestationService::handle(kp::Question question, ControlReply reply) {
  HF_ASSERT(takes(question));
  const auto take = [&]<typename Asked>(Asked& asked) {
    if constexpr (kAmong<Asked, kp::BootFiles>) {
      if (boot_files_ == nullptr) return reply(lacks("variable store and disk to boot from"));
      reply(boot_files_->answer(asked));
    } else if constexpr (kAsksTpm<Asked>) {
      if (recorder_ == nullptr) return reply(lacks("vTPM"));
      if constexpr (kAmong<Asked, kp::Measurements>) {
        measurements(asked, std::move(reply));
      } else {
        on_worker([this, asked = std::move(asked)] { return ask(*tpm_, asked); }, std::move(reply));
      }
    } else if constexpr (kAsksStore<Asked>) {
      if (store_ == nullptr) return reply(lacks("variable store"));
      on_worker([this, asked = std::move(asked)] { return ask(*store_, asked); }, std::move(reply));
    } else if constexpr (kAmong<Asked, kp::AttestationPut>) {
      on_worker([this, asked = std::move(asked)] { return put(asked); }, std::move(reply));
    } else if constexpr (kAmong<Asked, kp::AttestationGet>) {
      on_worker([this] { return get(); }, std::move(reply));
    }
  };
  std::visit(take, question);
}

void AttestationService::on_worker(Answer answer, ControlReply reply) {
  auto shared = std::make_shared<ControlReply>(std::move(reply));
  const bool taken = worker_.post([this, answer = std::move(answer), shared] mutable {
    Result<sys::JsonObject> result = answer();
    reactor_.post([shared, result = std::move(result)] mutable { (*shared)(std::move(result)); });
  });
  if (!taken) {
    (*shared)(Error{.code = ErrorCode::kUnavailable, .cause = "the keeper is stopping"});
  }
}

void AttestationService::measurements(const kp::Measurements& asked, ControlReply reply) {
  // Whoever asked first may have gone: nothing tells that it has.
  if (waits_.size() >= kBootWaitsMax) waits_.front().until = Micros();
  waits_.push_back({.from = asked.from,
                    .boot = asked.boot,
                    .handed_over = asked.handed_over,
                    .until = Micros(reactor_.now().value + asked.wait_ms * 1000),
                    .reply = std::move(reply)});
  answer_waits();
}

void AttestationService::answer_waits() {
  const vtpm::BootRecord boot = recorder_->read(0, 0).boot;
  const std::string id = boot.powered ? boot.id.hex() : "";
  Micros next(UINT64_MAX);
  std::erase_if(waits_, [&](BootWait& wait) {
    const bool same = wait.boot == id && wait.handed_over == boot.exit_boot_services.has_value();
    if (same && wait.until > reactor_.now()) {
      next = std::min(next, wait.until);
      return false;
    }
    wait.reply(measurements_page(*recorder_, wait.from));
    return true;
  });
  reactor_.disarm(*this);
  if (next.value != UINT64_MAX) reactor_.arm(*this, next);
}

Result<sys::JsonObject> AttestationService::put(const kp::AttestationPut& asked) {
  TRY(items_.put_attestation(asked.data));
  return sys::JsonObject{};
}

Result<sys::JsonObject> AttestationService::get() {
  const std::optional<Bytes> data = TRY(items_.attestation());
  // Null is said, not left out: there is an answer, and it is that nothing was put.
  if (!data) return sys::JsonObject{{"data", nullptr}};
  return encode_reply(kp::Stored{.data = *data});
}

}  // namespace hf::keeper
