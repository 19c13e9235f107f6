#include "attestation/policy/policy.h"

#include <fmt/format.h>

#include <algorithm>

#include "crypto/crypto.h"

namespace hf::attestation {
namespace {

char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

bool is_space(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

// Whether `words` occurs in `line` with nothing but space or an end on both sides.
bool contains_words(std::string_view line, std::string_view words) {
  for (size_t at = line.find(words); at != std::string_view::npos; at = line.find(words, at + 1)) {
    size_t end = at + words.size();
    if ((at == 0 || is_space(line[at - 1])) && (end == line.size() || is_space(line[end]))) {
      return true;
    }
  }
  return false;
}

void set_all(Policy& policy, std::initializer_list<size_t> pcrs, PcrRule rule) {
  for (size_t pcr : pcrs) policy.pcrs[pcr].rule = rule;
}

// The reasons for each line: docs/formats/appraisal-policy.md, "Which PCR is compared how".
Policy linux_policy() {
  Policy policy;
  policy.name = "linux";
  policy.description = "Linux guests: shim and GRUB, systemd-boot, unified kernel images";
  policy.banks = {HashAlg::kSha256, HashAlg::kSha384, HashAlg::kSha512};
  set_all(policy, {0, 2, 4, 7, 8, 9, 11, 12, 13, 14}, PcrRule::kBaseline);
  set_all(policy, {1, 3, 5, 6}, PcrRule::kNote);
  return policy;
}

Policy windows_policy() {
  Policy policy;
  policy.name = "windows";
  policy.description = "Windows guests: programs may change while the same keys vouch for them";
  policy.banks = {HashAlg::kSha256, HashAlg::kSha384, HashAlg::kSha512};
  set_all(policy, {0, 2, 7}, PcrRule::kBaseline);
  set_all(policy, {4}, PcrRule::kSigned);
  set_all(policy, {1, 3, 5, 6}, PcrRule::kNote);
  return policy;
}

// Asks for nothing: the start of a policy that says everything itself.
Policy empty_policy() {
  Policy policy;
  policy.name = "none";
  policy.banks = {HashAlg::kSha256, HashAlg::kSha384, HashAlg::kSha512};
  policy.baseline = Need::kOptional;
  policy.attestation_key = KeyNeed::kAny;
  policy.secure_boot = Need::kOptional;
  policy.test_signers = Allow::kAllow;
  policy.debugging = Allow::kAllow;
  return policy;
}

}  // namespace

bool TextRules::empty() const {
  return contains.empty() && excludes.empty() && equals.empty() && starts_with.empty() &&
         like.empty();
}

std::string broken_rule(const TextRules& rules, std::string_view line) {
  for (const std::string& words : rules.contains) {
    if (!contains_words(line, words)) return fmt::format("it lacks \"{}\"", words);
  }
  for (const std::string& words : rules.excludes) {
    if (contains_words(line, words)) return fmt::format("it has \"{}\"", words);
  }
  auto none_of = [](const std::vector<std::string>& list, auto&& matches) {
    return !list.empty() && std::ranges::none_of(list, matches);
  };
  if (none_of(rules.equals, [&](const std::string& text) { return line == text; })) {
    return fmt::format("expected was \"{}\"{}", rules.equals.front(),
                       rules.equals.size() > 1 ? " or another of the policy's lines" : "");
  }
  if (none_of(rules.starts_with, [&](const std::string& text) { return line.starts_with(text); })) {
    return fmt::format("it does not start with \"{}\"", rules.starts_with.front());
  }
  if (none_of(rules.like, [&](const std::string& text) { return glob_match(text, line); })) {
    return fmt::format("it is not like \"{}\"", rules.like.front());
  }
  return {};
}

bool glob_match(std::string_view pattern, std::string_view text) {
  // The last star is the only one that ever needs another try: the runs before it are shortest
  // already. So the time is in proportion to pattern times text, whatever the pattern.
  size_t p = 0;
  size_t t = 0;
  size_t star = std::string_view::npos;
  size_t star_text = 0;
  while (t < text.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      star_text = t;
    } else if (p < pattern.size() && (pattern[p] == '?' || lower(pattern[p]) == lower(text[t]))) {
      ++p;
      ++t;
    } else if (star != std::string_view::npos) {
      p = star + 1;
      t = ++star_text;
    } else {
      return false;
    }
  }
  while (p < pattern.size() && pattern[p] == '*') ++p;
  return p == pattern.size();
}

bool Policy::compares_with_baseline() const {
  return std::ranges::any_of(pcrs, [](const PcrPolicy& pcr) {
    return pcr.rule == PcrRule::kBaseline || pcr.rule == PcrRule::kSigned;
  });
}

Result<Policy> built_in_policy(std::string_view name) {
  static const auto kBuiltIn = [] {
    std::array policies{linux_policy(), windows_policy(), empty_policy()};
    for (Policy& policy : policies) policy.id = policy_id(policy);
    return policies;
  }();
  for (const Policy& policy : kBuiltIn) {
    if (policy.name == name) return policy;
  }
  return Error{.code = ErrorCode::kNotFound,
               .cause = fmt::format("there is no built-in policy \"{}\"; there are linux, windows "
                                    "and none",
                                    name.substr(0, 64))};
}

std::string policy_id(const Policy& policy) {
  std::string text = sys::to_text(to_json(policy));
  return fmt::format("{}:{}", policy.name, crypto::sha256(as_bytes(text)).hex().substr(0, 16));
}

}  // namespace hf::attestation
