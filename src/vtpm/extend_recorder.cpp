#include "vtpm/extend_recorder.h"

#include <openssl/evp.h>

#include <algorithm>

namespace hf::vtpm {
namespace {

struct Bank {
  uint16_t algorithm;
  size_t size;
  const EVP_MD* (*digest)();
};
constexpr Bank kBanks[] = {{kAlgSha1, 20, EVP_sha1},
                           {kAlgSha256, 32, EVP_sha256},
                           {kAlgSha384, 48, EVP_sha384},
                           {kAlgSha512, 64, EVP_sha512}};

constexpr size_t kBanksMax = 16;  // HASH_COUNT of any TPM
constexpr uint8_t kPcrOfExit = 5;
constexpr std::string_view kExitBootServices = "Exit Boot Services Invocation";
constexpr uint8_t kPcrOfHcrtm = 0;
constexpr uint8_t kPcrOfDrtm = 17;
constexpr uint8_t kLocalityOfHash = 4;  // the hardware's own

const Bank* find_bank(uint16_t algorithm) {
  const auto* found = std::ranges::find(kBanks, algorithm, &Bank::algorithm);
  return found == std::end(kBanks) ? nullptr : found;
}

Bytes digest_of(const Bank& bank, std::string_view text) {
  Bytes out(bank.size);
  HF_ASSERT(EVP_Digest(text.data(), text.size(), reinterpret_cast<unsigned char*>(out.data()),
                       nullptr, bank.digest(), nullptr) == 1);
  return out;
}

// In every bank that the extend names: one that says otherwise in another bank says nothing.
bool is_exit_boot_services(const PcrChangeRecord& change) {
  static const std::vector<Bytes> expected = [] {
    std::vector<Bytes> all;
    for (const Bank& bank : kBanks) all.push_back(digest_of(bank, kExitBootServices));
    return all;
  }();
  return change.kind == PcrChangeKind::kExtend && change.pcr == kPcrOfExit &&
         !change.digests.empty() &&
         std::ranges::all_of(change.digests, [](const BankDigest& digest) {
           const auto index = static_cast<size_t>(find_bank(digest.algorithm) - kBanks);
           return digest.digest == expected[index];
         });
}

// What changes all the time in a guest that runs, and is in no quote of ours.
bool is_idle(uint8_t pcr) { return pcr == 10 || pcr == 16 || pcr == 23; }
constexpr size_t kIdleShare = 16;  // one part of so many

Error corrupt() {
  return Error{.code = ErrorCode::kCorrupt, .cause = "a TPM command of another layout"};
}

// The parameters of an answer to a command with sessions: behind their size.
Result<ResponseReader> answer_parameters(ByteSpan response) {
  ResponseReader reader(response.subspan(kTpmHeaderSize));
  const uint32_t size = TRY(reader.u32());
  return ResponseReader(TRY(reader.raw(size)));
}

// The answer to TPM2_GetCapability(TPM_CAP_PCRS): by bank, its PCRs as bits.
Result<std::map<uint16_t, uint32_t>> read_banks(ByteSpan response) {
  ResponseReader reader(TRY(expect_success(response, "read the PCR banks")));
  TRY(reader.raw(1 + 4));  // more data, capability
  const uint32_t count = TRY(reader.u32());
  if (count > kBanksMax) return corrupt();
  std::map<uint16_t, uint32_t> banks;
  for (uint32_t i = 0; i < count; ++i) {
    const uint16_t bank = TRY(reader.u16());
    const ByteSpan octets = TRY(reader.raw(TRY(reader.u8())));
    if (octets.size() > sizeof(uint32_t)) return corrupt();
    uint32_t mask = 0;
    for (size_t at = 0; at < octets.size(); ++at) {
      mask |= std::to_integer<uint32_t>(octets[at]) << (8 * at);
    }
    banks[bank] = mask;
  }
  return banks;
}

}  // namespace

void ExtendRecorder::HashFree::operator()(evp_md_ctx_st* context) const {
  EVP_MD_CTX_free(context);
}

void ExtendRecorder::begin(bool complete) {
  boot_ = BootRecord{};
  rng_.fill(boot_.id.bytes);
  boot_.started = clock_.wall_time();
  boot_.powered = true;
  boot_.complete = complete;
  changes_.clear();
  changes_.shrink_to_fit();
  started_up_ = false;
  banks_.reset();
  full_ = false;
  idle_ = 0;
  hashes_.clear();
}

void ExtendRecorder::set_on_boot(std::function<void()> told) {
  MutexLock lock(mutex_);
  on_boot_ = std::move(told);
}

void ExtendRecorder::tell_boot() {
  std::function<void()> told;
  {
    MutexLock lock(mutex_);
    told = on_boot_;
  }
  if (told) told();
}

void ExtendRecorder::on_power(PowerChange change) {
  {
    MutexLock lock(mutex_);
    hashes_.clear();
    if (change == PowerChange::kOff) {
      boot_.powered = false;  // what it did stays to be read until it starts again
    } else {
      begin(change == PowerChange::kCold);
    }
  }
  tell_boot();
}

void ExtendRecorder::on_pcr_banks(ByteSpan response) {
  MutexLock lock(mutex_);
  Result<std::map<uint16_t, uint32_t>> banks = read_banks(response);
  if (banks.ok()) {
    banks_ = *std::move(banks);
  } else {
    boot_.complete = false;  // and nothing is left out
  }
  // What an H-CRTM measured before there was an answer; nothing else can stand there yet.
  if (boot_.exit_boot_services) return;
  for (PcrChangeRecord& change : changes_) leave_out_missing_banks(change);
  std::erase_if(changes_, [](const PcrChangeRecord& change) {
    return change.digests.empty() && change.kind != PcrChangeKind::kReset;
  });
}

void ExtendRecorder::leave_out_missing_banks(PcrChangeRecord& change) const {
  if (!banks_) return;
  std::erase_if(change.digests, [&banks = *banks_, &change](const BankDigest& digest) {
    const auto found = banks.find(digest.algorithm);
    return found == banks.end() || (found->second >> change.pcr & 1) == 0;
  });
}

void ExtendRecorder::forget() {
  MutexLock lock(mutex_);
  boot_ = BootRecord{};
  changes_.clear();
}

void ExtendRecorder::note_lost() {
  {
    MutexLock lock(mutex_);
    boot_ = BootRecord{};
    boot_.complete = false;
    changes_.clear();
  }
  tell_boot();
}

void ExtendRecorder::add(PcrChangeRecord change) {
  leave_out_missing_banks(change);
  if (change.digests.empty() && change.kind != PcrChangeKind::kReset) return;
  // Where PCR 10 made the record run full, nothing could be said of the boot any more.
  if (boot_.exit_boot_services && is_idle(change.pcr) && ++idle_ > changes_max_ / kIdleShare) {
    ++boot_.left_out;
    return;
  }
  if (changes_.size() >= changes_max_) full_ = true;
  if (full_) {
    boot_.complete = false;
    return;
  }
  change.time = clock_.wall_time();
  if (!boot_.exit_boot_services && is_exit_boot_services(change)) {
    boot_.exit_boot_services = changes_.size();
    boot_.exit_time = change.time;
  }
  changes_.push_back(std::move(change));
}

void ExtendRecorder::on_command(uint8_t locality, ByteSpan command, ByteSpan response) {
  bool handed_over = false;
  {
    MutexLock lock(mutex_);
    hashes_.clear();  // any command ends a root of trust under way
    const Result<ResponseHeader> header = parse_response_header(response);
    if (!header.ok() || header->code != kRcSuccess) return;
    const bool before = boot_.exit_boot_services.has_value();
    // The TPM has taken it: if we cannot read it, the record lacks it.
    if (!note(locality, command, response).ok()) boot_.complete = false;
    handed_over = !before && boot_.exit_boot_services.has_value();
  }
  if (handed_over) tell_boot();
}

Status ExtendRecorder::note(uint8_t locality, ByteSpan command, ByteSpan response) {
  ResponseReader reader(command.subspan(kTpmHeaderSize));
  switch (command_code(command)) {
    case kCcStartup:
      return note_startup(locality, command);
    case kCcPcrExtend: {
      const uint32_t handle = TRY(reader.u32());
      TRY(reader.raw(TRY(reader.u32())));  // authorization area
      return note_digests(locality, handle, reader);
    }
    case kCcPcrEvent:
    case kCcEventSequenceComplete: {
      // The digests are the TPM's own, and in its answer.
      const uint32_t handle = TRY(reader.u32());
      return note_digests(locality, handle, TRY(answer_parameters(response)));
    }
    case kCcPcrReset: {
      const uint32_t handle = TRY(reader.u32());
      if (handle >= kPcrsMax) return corrupt();
      add({.kind = PcrChangeKind::kReset,
           .pcr = static_cast<uint8_t>(handle),
           .locality = locality,
           .digests = {}});
      return {};
    }
    default:
      return {};
  }
}

Status ExtendRecorder::note_startup(uint8_t locality, ByteSpan command) {
  ResponseReader reader(command.subspan(kTpmHeaderSize));
  const uint16_t type = TRY(reader.u16());
  started_up_ = true;
  boot_.startup_locality = locality;
  // PCRs 0 to 15 come back as they were saved.
  if (type == static_cast<uint16_t>(StartupType::kState)) boot_.complete = false;
  return {};
}

Status ExtendRecorder::note_digests(uint8_t locality, uint32_t handle, ResponseReader reader) {
  if (handle == kHandleNull) return {};
  if (handle >= kPcrsMax) return corrupt();
  const uint32_t count = TRY(reader.u32());
  if (count > kBanksMax) return corrupt();
  PcrChangeRecord change{.pcr = static_cast<uint8_t>(handle), .locality = locality, .digests = {}};
  for (uint32_t i = 0; i < count; ++i) {
    const Bank* bank = find_bank(TRY(reader.u16()));
    if (bank == nullptr) return corrupt();
    const ByteSpan digest = TRY(reader.raw(bank->size));
    // A bank named twice is extended twice.
    if (std::ranges::count(change.digests, bank->algorithm, &BankDigest::algorithm) != 0) {
      add(std::exchange(change, {.pcr = change.pcr, .locality = locality, .digests = {}}));
    }
    change.digests.push_back(
        {.algorithm = bank->algorithm, .digest = Bytes(digest.begin(), digest.end())});
  }
  if (count > 0) add(std::move(change));
  return {};
}

void ExtendRecorder::on_hash_start() {
  MutexLock lock(mutex_);
  hashes_.clear();
  for (const Bank& bank : kBanks) {
    hashes_.emplace_back(EVP_MD_CTX_new());
    HF_ASSERT(hashes_.back() != nullptr &&
              EVP_DigestInit_ex(hashes_.back().get(), bank.digest(), nullptr) == 1);
  }
}

void ExtendRecorder::on_hash_data(ByteSpan data) {
  MutexLock lock(mutex_);
  for (Hash& hash : hashes_) {
    HF_ASSERT(EVP_DigestUpdate(hash.get(), data.data(), data.size()) == 1);
  }
}

void ExtendRecorder::on_hash_end() {
  MutexLock lock(mutex_);
  if (hashes_.empty()) return;  // none was under way: the TPM did nothing either
  PcrChangeRecord change{.kind = started_up_ ? PcrChangeKind::kDrtm : PcrChangeKind::kHcrtm,
                         .pcr = started_up_ ? kPcrOfDrtm : kPcrOfHcrtm,
                         .locality = kLocalityOfHash,
                         .digests = {}};
  for (size_t i = 0; i < hashes_.size(); ++i) {
    Bytes digest(kBanks[i].size);
    HF_ASSERT(EVP_DigestFinal_ex(hashes_[i].get(), reinterpret_cast<unsigned char*>(digest.data()),
                                 nullptr) == 1);
    change.digests.push_back({.algorithm = kBanks[i].algorithm, .digest = std::move(digest)});
  }
  hashes_.clear();
  add(std::move(change));
}

ExtendRecorder::View ExtendRecorder::read(uint64_t from, size_t max) const {
  MutexLock lock(mutex_);
  View view{.boot = boot_, .changes = {}};
  view.boot.total = changes_.size();
  if (from >= changes_.size()) return view;
  const auto first = changes_.begin() + static_cast<std::ptrdiff_t>(from);
  const size_t count = std::min<size_t>(max, changes_.size() - from);
  view.changes.assign(first, first + static_cast<std::ptrdiff_t>(count));
  return view;
}

}  // namespace hf::vtpm
