#include "secure_boot/preflight/explanations.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/text.h"

namespace hf::secure_boot {
namespace {

constexpr size_t kExplanationsMax = 20000;
constexpr size_t kWordsMax = 400;  // bytes: a configuration may be one command of a megabyte

constexpr uint32_t kPcrImages = 4;
constexpr uint32_t kPcrPartitions = 5;
constexpr uint32_t kPcrGrubText = 8;
constexpr uint32_t kPcrFiles = 9;
constexpr uint32_t kPcrUki = 11;
constexpr uint32_t kPcrOptions = 12;

}  // namespace

void Explainer::add(uint32_t pcr, ByteSpan digest, const std::string& guests_words) {
  if (report_.explained.size() >= kExplanationsMax) return;
  std::string words = clean_text(guests_words, kWordsMax);
  std::string key = to_hex(digest);
  auto [from, to] = report_.explained.equal_range(key);
  const bool known = std::any_of(from, to, [&](const auto& entry) {
    return entry.second.pcr == pcr && entry.second.words == words;
  });
  if (!known) {
    report_.explained.emplace(std::move(key), Explanation{.pcr = pcr, .words = std::move(words)});
  }
}

void Explainer::bytes(uint32_t pcr, ByteSpan content, const std::string& words, uint64_t zeros) {
  for (DigestAlgorithm algorithm : kDigestAlgorithms) {
    DigestStream stream(algorithm);
    if (!update(stream, content, budget_).ok()) return;
    if (!update_with_zeros(stream, zeros, budget_).ok()) return;
    add(pcr, stream.finish(), words);
  }
}

void Explainer::image(const PeImage& image, const std::string& words) {
  for (DigestAlgorithm algorithm : kDigestAlgorithms) {
    Result<Bytes> digest = image.authenticode_digest(algorithm);
    if (digest.ok()) add(kPcrImages, *digest, words);
  }
}

void Explainer::file(ByteSpan content, const std::string& words) {
  bytes(kPcrFiles, content, words);
}

void Explainer::grub_text(std::string_view text, const std::string& words) {
  bytes(kPcrGrubText, as_bytes(text), words);
}

void Explainer::partition_table(ByteSpan event) {
  bytes(kPcrPartitions, event, "the partition table of the disk");
}

void Explainer::load_options(std::string_view options) {
  Bytes utf16;
  for (char c : options) {  // boot entries are ASCII; others are measured as they are encoded
    utf16.push_back(static_cast<std::byte>(c));
    utf16.push_back(std::byte{0});
  }
  utf16.resize(utf16.size() + 2);
  const std::string words = fmt::format("kernel command line \"{}\"", options);
  bytes(kPcrOptions, utf16, words);
  bytes(kPcrFiles, utf16, words);
}

void Explainer::uki_sections(const PeImage& image, const std::string& name) {
  for (std::string_view section_name : kUkiSections) {
    const PeSection* section = image.section(section_name);
    if (section == nullptr || section_name == ".pcrsig") continue;
    Bytes label(section_name.size() + 1);
    std::ranges::copy(as_bytes(section_name), label.begin());
    bytes(kPcrUki, label, fmt::format("that section {} of {} follows", section_name, name));
    const ByteSpan content = image.content(*section);
    if (section_name == ".initrd") file(content, "the initial file system in " + name);
    const std::string words = fmt::format("section {} of {}", section_name, name);
    // Memory behind the file's bytes is zero, as far as there is memory.
    const bool fits = section->virtual_size <= image.size_of_image();
    const uint64_t zeros =
        fits && section->virtual_size > content.size() ? section->virtual_size - content.size() : 0;
    bytes(kPcrUki, content, words, zeros);
  }
}

}  // namespace hf::secure_boot
