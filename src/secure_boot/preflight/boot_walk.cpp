#include "secure_boot/preflight/boot_walk.h"

#include <fmt/format.h>

#include <algorithm>

#include "secure_boot/disk/gpt.h"
#include "secure_boot/keys/certificate.h"
#include "secure_boot/preflight/grub_walk.h"

namespace hf::secure_boot {
namespace {

constexpr std::string_view kRemovableDirectory = "EFI/BOOT";
constexpr size_t kEntriesMax = 64;

std::string lower(std::string text) {
  for (char& c : text) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
  return text;
}

std::string directory_of(const std::string& path) {
  const size_t slash = path.rfind('/');
  return slash == std::string::npos ? std::string() : path.substr(0, slash);
}

// Of a file that firmware cannot read either. Others are beyond a bound of ours, or were not read.
bool is_definite(const Error& error) {
  return error.code == ErrorCode::kNotFound || error.code == ErrorCode::kCorrupt ||
         error.code == ErrorCode::kInvalidArgument;
}

std::string place_of(const BootVolume& volume, const std::string& path) {
  return fmt::format("{}:{}", volume.partition, lower(path));
}

std::vector<SignatureReport> signature_reports(const PeImage& image) {
  std::vector<SignatureReport> reports;
  for (const ImageSignature& entry : signatures_of(image)) {
    if (!entry.signature) {
      reports.push_back({.error = entry.error});
      continue;
    }
    for (const Bytes& signer : entry.signature->signers()) {
      SignatureReport report{.algorithm = std::string(name_of(entry.signature->algorithm())),
                             .covers_image = entry.covers_image};
      Result<CertificateFacts> facts = read_certificate(signer);
      report.signer = facts.ok() ? words(*facts) : "a certificate that cannot be read";
      if (facts.ok()) report.issuer = issuer_words(*facts);
      reports.push_back(std::move(report));
    }
  }
  return reports;
}

// "key value" of a boot loader entry.
std::optional<std::string> entry_value(std::string_view line, std::string_view key) {
  if (!line.starts_with(key) || line.size() <= key.size()) return std::nullopt;
  line.remove_prefix(key.size());
  if (line.front() != ' ' && line.front() != '\t') return std::nullopt;
  const size_t start = line.find_first_not_of(" \t");
  if (start == std::string_view::npos) return std::nullopt;
  line.remove_prefix(start);
  while (!line.empty() && (line.back() == ' ' || line.back() == '\r')) line.remove_suffix(1);
  return std::string(line);
}

}  // namespace

BootPath BootWalk::follow(std::string name, BootVolume& volume, const std::string& path) {
  path_ = BootPath{.name = std::move(name)};
  visited_.clear();
  follow_program(volume, path, {});
  return std::move(path_);
}

void BootWalk::outcome(Boots boots, std::string reason) {
  path_.boots = boots;
  path_.reason = std::move(reason);
}

ImageVerdict BootWalk::judge_image(const PeImage& image, const Judge& judge) const {
  if (judge.nobody) {
    return {.verdict = Verdict::kAllowed, .reason = "its loader checks no signatures"};
  }
  if (judge.shim == nullptr) return judge_by_firmware(image, input_.state);
  return judge_by_shim(image, input_.state, *judge.shim, judge.caller);
}

void BootWalk::keep_signatures(const PeImage& image, BootPart& part) {
  for (const WinCertificate& entry : image.certificate_table().entries) {
    const size_t size = entry.pkcs7.size();
    if (size == 0 || size > kKeptSignatureBytesMax) continue;
    if (size > kKeptSignaturesBytesMax - signature_bytes_) return;
    signature_bytes_ += size;
    part.pkcs7.emplace_back(entry.pkcs7.begin(), entry.pkcs7.end());
  }
}

void BootWalk::describe(const Loaded& loaded, BootPart& part) {
  const PeImage& image = *loaded.image;
  part.kind = loaded.kind;
  part.signatures = signature_reports(image);
  keep_signatures(image, part);
  part.nx_compatible = image.nx_compatible();
  if (const PeSection* section = image.section(".sbat")) {
    Result<std::vector<SbatComponent>> sbat = parse_sbat(image.content(*section));
    if (sbat.ok()) part.sbat = *std::move(sbat);
  }
  Result<Bytes> digest = image.authenticode_digest(DigestAlgorithm::kSha256);
  if (digest.ok()) part.authenticode_sha256 = to_hex(*digest);
  if (loaded.kind == ProgramKind::kUki) {
    const UkiFacts facts = uki_facts_of(image);
    part.detail = facts.name + (facts.release.empty() ? "" : ", " + facts.release);
    explain_.uki_sections(image, part.path);
    explain_.load_options(facts.command_line);
  }
  explain_.image(image, fmt::format("{} {}", to_string(loaded.kind), part.path));
}

// A part for the file, judged. An error: it cannot be read, with the reason for the path.
Result<BootWalk::LoadedPtr> BootWalk::load(BootVolume& volume, const std::string& path,
                                           const Judge& judge) {
  if (path_.parts.size() == kBootPartsMax) {
    return Error{.code = ErrorCode::kLimit, .cause = "too many boot programs"};
  }
  const std::string key = fmt::format("{} {} {} {}", place_of(volume, path), fmt::ptr(judge.shim),
                                      static_cast<int>(judge.caller), judge.nobody);
  LoadedPtr loaded;
  if (auto known = loaded_.find(key); known != loaded_.end()) {
    loaded = known->second;
  } else {
    loaded = TRY(read_program(volume, path, judge));
    if (loaded->bytes.size() <= kLoadedBytesMax - loaded_bytes_) {
      loaded_bytes_ += loaded->bytes.size();
      loaded_.emplace(key, loaded);
    }
  }
  path_.parts.push_back(loaded->part);
  path_.parts.back().path = path;  // in the letters of this path
  return loaded;
}

Result<BootWalk::LoadedPtr> BootWalk::read_program(BootVolume& volume, const std::string& path,
                                                   const Judge& judge) {
  auto loaded = std::make_shared<Loaded>();
  loaded->bytes = TRY(volume.files->read(path, kBootFileBytesMax));
  const Bytes sha256 = TRY(digest_of(DigestAlgorithm::kSha256, loaded->bytes, hashing_));
  BootPart& part = loaded->part;
  part = {.partition = volume.partition,
          .path = path,
          .size_bytes = loaded->bytes.size(),
          .judged_by = judge.nobody ? "nobody" : (judge.shim ? "shim" : "firmware"),
          .file_sha256 = to_hex(sha256)};
  Result<PeImage> image = PeImage::parse(loaded->bytes, &hashing_);
  if (image.ok()) {
    loaded->image = *std::move(image);
    TRY(hashing_.take(loaded->image->certificate_table().entries.size() * kSignatureCost));
    loaded->kind = kind_of(*loaded->image);
    part.verdict = judge_image(*loaded->image, judge);
    describe(*loaded, part);
    // What could not be hashed is not damaged, but unknown.
    TRY(hashing_.take(0));
    if (hashing_.bytes_left == 0) return hashing_.take(1).error();
  } else if (!is_definite(image.error())) {
    return std::move(image).error();
  } else {
    part.verdict = {.verdict = Verdict::kDamaged, .reason = image.error().cause};
  }
  const bool judged_now =
      input_.state.enforced && !(judge.shim != nullptr && input_.state.shim_checks_nothing);
  const bool by_firmware = judge.shim == nullptr && !judge.nobody;
  const bool loadable = loaded->image.has_value() &&
                        !(by_firmware && not_for_this_firmware(*loaded->image).has_value());
  loaded->boot_application = is_boot_application(loaded->bytes);
  loaded->goes_on = loadable && (part.verdict.allowed() || !judged_now);
  if (loaded->kind != ProgramKind::kShim && loaded->kind != ProgramKind::kGrub) {
    loaded->image.reset();
    loaded->bytes = Bytes();
  }
  return LoadedPtr(std::move(loaded));
}

void BootWalk::follow_program(BootVolume& volume, const std::string& path, const Judge& judge) {
  if (!visited_.insert(place_of(volume, path)).second) {
    return outcome(Boots::kNo, path + " leads back to itself");
  }
  const bool by_boot_manager = path_.parts.empty();
  Result<LoadedPtr> found = load(volume, path, judge);
  if (!found.ok()) {
    return outcome(is_definite(found.error()) ? Boots::kNo : Boots::kAsFarAsSeen,
                   fmt::format("{} cannot be loaded: {}", path, found.error().cause));
  }
  const Loaded& loaded = **found;
  if (by_boot_manager) path_.chosen = loaded.boot_application;
  if (by_boot_manager && loaded.goes_on && !loaded.boot_application) {
    return outcome(Boots::kNo, path +
                                   " will not start: it is no EFI application, and firmware's "
                                   "boot manager takes nothing else");
  }
  if (!loaded.goes_on) {
    return outcome(Boots::kNo,
                   fmt::format("{} will not start: {}", path, path_.parts.back().verdict.reason));
  }
  after(volume, path, loaded, judge);
}

void BootWalk::after(BootVolume& volume, const std::string& path, const Loaded& loaded,
                     const Judge& judge) {
  // These two come back to firmware if what they are to start does not.
  path_.started =
      path_.started || (loaded.kind != ProgramKind::kShim && loaded.kind != ProgramKind::kFallback);
  switch (loaded.kind) {
    case ProgramKind::kShim:
      return after_shim(volume, path, loaded);
    case ProgramKind::kFallback:
      return after_fallback(volume);
    case ProgramKind::kGrub:
      return after_grub(volume, path, loaded, judge);
    case ProgramKind::kSystemdBoot:
      return after_systemd_boot(volume, judge);
    case ProgramKind::kUki:
    case ProgramKind::kLinux:
      return outcome(Boots::kYes, fmt::format("{} starts {}", path_.parts[0].path, path));
    case ProgramKind::kWindows:
      return outcome(Boots::kAsFarAsSeen, "Windows' own loader lies on NTFS, which is not read");
    case ProgramKind::kMokManager:
      return outcome(Boots::kNo, path + " is MokManager, which starts no system");
    case ProgramKind::kOther:
      break;
  }
  outcome(Boots::kAsFarAsSeen, fmt::format("what {} starts is not known", path));
}

void BootWalk::after_shim(BootVolume& volume, const std::string& path, const Loaded& shim) {
  Result<ShimTrust> trust = shim_trust_of(*shim.image);
  if (!trust.ok()) return outcome(Boots::kNo, trust.error().cause);
  const ShimTrust& kept =
      shims_.try_emplace(place_of(volume, path), *std::move(trust)).first->second;
  if (input_.state.enforced) {
    if (const auto why = revokes_itself(input_.state, kept)) {
      path_.started = true;
      return outcome(Boots::kNo, fmt::format("{} shuts the machine down, since it is revoked "
                                             "itself: SBAT: {}",
                                             path, *why));
    }
  }
  const std::string directory = directory_of(path);
  if (input_.state.shim_checks_nothing) {
    path_.notes.emplace_back("MokSBState: shim's own checks are switched off in this store");
  }
  const bool removable = lower(directory) == lower(std::string(kRemovableDirectory));
  std::string next = directory + "/grubx64.efi";
  if (removable && volume.files->find("EFI/BOOT/fbx64.efi").ok()) next = "EFI/BOOT/fbx64.efi";
  follow_program(volume, next, {.shim = &kept, .caller = ShimCaller::kShim});
  const std::string manager = directory + "/mmx64.efi";
  const bool refused = path_.boots == Boots::kNo && !path_.started &&
                       path_.parts.back().judged_by == "shim" && path_.parts.back().path == next &&
                       !path_.parts.back().verdict.allowed();
  if (refused && volume.files->find(manager).ok()) {
    path_.started = true;
    path_.notes.push_back("shim starts " + manager + " instead and waits for somebody to act");
  }
}

// fallback makes a boot entry of each EFI/*/BOOTX64.CSV and starts the first, through firmware.
void BootWalk::after_fallback(BootVolume& volume) {
  Result<std::vector<FatEntry>> vendors = volume.files->list("EFI");
  if (!vendors.ok()) return outcome(Boots::kNo, vendors.error().cause);
  for (const FatEntry& vendor : *vendors) {
    if (!vendor.is_directory || lower(vendor.name) == "boot") continue;
    Result<Bytes> csv = volume.files->read("EFI/" + vendor.name + "/BOOTX64.CSV", kConfigBytesMax);
    if (!csv.ok()) continue;
    ByteSpan text(*csv);
    if (text.size() >= 2 && load_le<uint16_t>(text.data()) == 0xFEFF) text = text.subspan(2);
    const std::string line = utf8_from_utf16(text);
    const std::string file = line.substr(0, line.find(','));
    if (file.empty()) continue;
    path_.notes.push_back("fallback adds a boot entry for EFI/" + vendor.name + "/" + file);
    return follow_program(volume, "EFI/" + vendor.name + "/" + file, {});
  }
  outcome(Boots::kNo, "fallback finds no BOOTX64.CSV in EFI/*");
}

void BootWalk::after_grub(BootVolume& volume, const std::string& path, const Loaded& grub,
                          const Judge& judge) {
  const GrubFacts facts = grub_facts_of(*grub.image);
  GrubWalk walk(volumes_, volume, explain_);
  walk.run(facts, directory_of(path));
  Judge kernel_judge{.shim = judge.shim, .caller = ShimCaller::kProtocol};
  if (judge.shim == nullptr && input_.state.enforced) {
    if (!facts.shim_lock_disabled) {
      return outcome(Boots::kNo, path +
                                     " asks shim about each kernel, and there is no shim on "
                                     "this path; it starts none");
    }
    kernel_judge.nobody = true;
  }
  if (!walk.kernels().empty()) {
    start_kernels(walk.kernels(), kernel_judge, walk.unknown_first());
    if (!walk.elsewhere().empty()) path_.notes.push_back(walk.elsewhere());
    return;
  }
  for (const std::string* unknown : {&walk.unknown_first(), &walk.elsewhere()}) {
    if (!unknown->empty()) return outcome(Boots::kAsFarAsSeen, *unknown);
  }
  outcome(Boots::kNo, walk.found_config()
                          ? "GRUB's configuration names no kernel"
                          : "GRUB's configuration was not found at " +
                                (facts.prefix.empty() ? "its prefix" : facts.prefix + "/grub.cfg"));
}

// The files of the Boot Loader Specification, on the partition that systemd-boot came from.
void BootWalk::after_systemd_boot(BootVolume& volume, const Judge& judge) {
  std::vector<KernelFile> kernels;
  auto each = [&](const std::string& directory, std::string_view suffix, auto&& act) {
    Result<std::vector<FatEntry>> entries = volume.files->list(directory);
    if (!entries.ok()) return;
    std::vector<std::string> names;
    for (const FatEntry& entry : *entries) {
      if (!entry.is_directory && lower(entry.name).ends_with(suffix)) names.push_back(entry.name);
    }
    std::ranges::sort(names, std::greater<>());  // newest first, as versions mostly sort
    if (names.size() > kEntriesMax) names.resize(kEntriesMax);
    for (const std::string& name : names) act(directory + "/" + name);
  };
  each("loader/entries", ".conf",
       [&](const std::string& path) { loader_entry(volume, path, kernels); });
  each("EFI/Linux", ".efi",
       [&](const std::string& path) { kernels.push_back({.volume = &volume, .path = path}); });
  if (kernels.empty()) {
    return outcome(Boots::kAsFarAsSeen,
                   "systemd-boot finds no kernel on its partition; another may hold some");
  }
  start_kernels(kernels, {.shim = judge.shim, .caller = ShimCaller::kProtocol});
}

void BootWalk::loader_entry(BootVolume& volume, const std::string& path,
                            std::vector<KernelFile>& kernels) {
  Result<Bytes> raw = volume.files->read(path, kConfigBytesMax);
  if (!raw.ok()) return;
  std::string_view text = as_text(*raw);
  std::string initrd;
  std::string options;
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    const std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    for (std::string_view key : {"linux", "efi"}) {
      if (auto value = entry_value(line, key)) {
        value->erase(0, value->find_first_not_of('/'));
        if (kernels.size() == kKernelsMax) return;
        kernels.push_back({.volume = &volume, .path = *std::move(value)});
      }
    }
    if (auto value = entry_value(line, "initrd")) {
      initrd += "initrd=" + *value + " ";
      if (!explain_.first_time(volume.partition, *value)) continue;
      Result<Bytes> content = volume.files->read(*value, kBootFileBytesMax);
      if (content.ok()) explain_.file(*content, "the file " + *value);
    }
    if (auto value = entry_value(line, "options")) options += (options.empty() ? "" : " ") + *value;
  }
  std::ranges::replace(initrd, '/', '\\');
  explain_.load_options(initrd + options);
}

// The first is the loader's default; when it is refused, neither GRUB nor systemd-boot takes the
// next one without being told.
void BootWalk::start_kernels(const std::vector<KernelFile>& kernels, const Judge& judge,
                             const std::string& before) {
  std::optional<std::string> good;
  std::string refused;  // the first, and why
  bool unread = false;  // it is the first that was not read
  size_t seen = 0;
  for (const KernelFile& kernel : kernels) {
    if (!visited_.insert(place_of(*kernel.volume, kernel.path)).second) continue;
    ++seen;
    Result<LoadedPtr> loaded = load(*kernel.volume, kernel.path, judge);
    if (loaded.ok() && (*loaded)->goes_on) {
      if (!good) good = kernel.path;
      continue;
    }
    std::string why =
        fmt::format("{} will not start: {}", kernel.path,
                    loaded.ok() ? path_.parts.back().verdict.reason : loaded.error().cause);
    if (seen == 1) refused = why;
    if (seen == 1) unread = !loaded.ok() && !is_definite(loaded.error());
    path_.notes.push_back(std::move(why));
  }
  const std::string& loader = path_.parts[0].path;
  if (!before.empty()) return outcome(Boots::kAsFarAsSeen, before);
  if (unread) return outcome(Boots::kAsFarAsSeen, refused);
  if (!good) return outcome(Boots::kNo, seen == 0 ? loader + " leads back to itself" : refused);
  if (refused.empty()) return outcome(Boots::kYes, fmt::format("{} starts {}", loader, *good));
  outcome(Boots::kAsFarAsSeen, fmt::format("{}; {} would start if it is chosen", refused, *good));
}

}  // namespace hf::secure_boot
