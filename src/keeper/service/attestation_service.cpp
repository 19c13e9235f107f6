#include "keeper/service/attestation_service.h"

#include <algorithm>

#include "base/base64.h"

namespace hf::keeper {
namespace {

constexpr std::string_view kTpmOps[] = {"measurements", "pcrs", "attestation_key",
                                        "activate_credential", "quote"};
constexpr std::string_view kStoreOps[] = {"secure_boot", "secure_boot_edit", "secure_boot_save",
                                          "secure_boot_restore", "secure_boot_forget"};
constexpr std::string_view kRecordOps[] = {"attestation_put", "attestation_get"};
constexpr std::string_view kBootFiles = "boot_files";

template <size_t N>
bool among(const std::string_view (&ops)[N], std::string_view op) {
  return std::ranges::find(ops, op) != std::end(ops);
}

Error lacks(std::string_view what) {
  return Error{.code = ErrorCode::kUnsupported, .cause = "the VM has no " + std::string(what)};
}

}  // namespace

bool AttestationService::knows(std::string_view op) {
  return among(kTpmOps, op) || among(kStoreOps, op) || among(kRecordOps, op) || op == kBootFiles;
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
                                 const vtpm::ExtendRecorder& recorder) {
  tpm_ = std::move(tpm);
  recorder_ = &recorder;
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

void AttestationService::handle(const std::string& op, sys::JsonObject request,
                                ControlReply reply) {
  HF_ASSERT(knows(op));
  if (among(kTpmOps, op) && recorder_ == nullptr) return reply(lacks("vTPM"));
  if (among(kStoreOps, op) && store_ == nullptr) return reply(lacks("variable store"));
  if (op == kBootFiles) {
    if (boot_files_ == nullptr) return reply(lacks("variable store and disk to boot from"));
    return reply(boot_files_->answer(request));
  }
  if (op == "measurements") {
    const Result<uint64_t> from = sys::get_u64_or(request, "from", 0);
    if (!from.ok()) return reply(from.error());
    return reply(measurements_page(*recorder_, *from));
  }
  auto shared = std::make_shared<ControlReply>(std::move(reply));
  const bool taken = worker_.post([this, op, request = std::move(request), shared] {
    Result<sys::JsonObject> result = answer(op, request);
    reactor_.post([shared, result = std::move(result)] mutable { (*shared)(std::move(result)); });
  });
  if (!taken) {
    (*shared)(Error{.code = ErrorCode::kUnavailable, .cause = "the keeper is stopping"});
  }
}

Result<sys::JsonObject> AttestationService::answer(const std::string& op,
                                                   const sys::JsonObject& request) {
  if (op == "pcrs") return tpm_->pcrs();
  if (op == "attestation_key") return tpm_->attestation_key();
  if (op == "activate_credential") return tpm_->activate_credential(request);
  if (op == "quote") return tpm_->quote(request);
  if (op == "secure_boot") return store_->show();
  if (op == "secure_boot_edit") return store_->edit(request);
  if (op == "secure_boot_save") return store_->save(request);
  if (op == "secure_boot_restore") return store_->restore(request);
  if (op == "secure_boot_forget") return store_->forget(request);
  if (op == "attestation_put") return put(request);
  HF_ASSERT(op == "attestation_get");
  return get();
}

Result<sys::JsonObject> AttestationService::put(const sys::JsonObject& request) {
  const Bytes data = TRY(base64_decode(TRY(sys::get_string(request, "data"))));
  TRY(items_.put_attestation(data));
  return sys::JsonObject{};
}

Result<sys::JsonObject> AttestationService::get() {
  const std::optional<Bytes> data = TRY(items_.attestation());
  if (!data) return sys::JsonObject{{"data", nullptr}};
  return sys::JsonObject{{"data", base64_encode(*data)}};
}

}  // namespace hf::keeper
