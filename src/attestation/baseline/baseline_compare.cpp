// What differs between a boot and an accepted one, what each difference weighs under a policy, and
// how to say it.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <tuple>

#include "attestation/baseline/baseline_inner.h"
#include "attestation/baseline/entry_words.h"
#include "attestation/baseline/grub_config.h"
#include "attestation/baseline/sequence_diff.h"
#include "attestation/words/database_change.h"
#include "attestation/words/quoted.h"

namespace hf::attestation {
namespace {

// Trying boot options in turn measures an action each; which option it was decides nothing, what it
// loaded does, and that is measured too. In PCR 5 actions tell how the firmware ended.
bool compared(uint8_t pcr, MeasurementKind kind) {
  bool told_elsewhere =
      kind == MeasurementKind::kAction || kind == MeasurementKind::kExitBootServices;
  return !(told_elsewhere && (pcr == 4 || pcr == 5));
}

bool compared(const Measurement& m) { return m.placed && compared(m.pcr, m.kind); }

// One cause shows in several registers; the nearest to it comes first.
int rank(std::string_view code) {
  constexpr std::array<std::string_view, 11> kOrder = {
      "secure_boot_changed", "pk_changed",        "kek_changed",         "db_changed",
      "dbx_changed",         "mok_changed",       "program_changed",     "program_added",
      "program_missing",     "authority_changed", "command_line_changed"};
  return static_cast<int>(std::ranges::find(kOrder, code) - kOrder.begin());
}

struct Side {
  std::vector<ByteSpan> digests;
  std::vector<const BaselineEntry*> entries;     // of the baseline
  std::vector<uint32_t> nths;                    // of the baseline, in the PCR
  std::vector<uint32_t> programs;                // up to and with each
  std::vector<const Measurement*> measurements;  // of the boot
};

class Comparison {
 public:
  Comparison(const BaselineBoot& expected, const Compared& with, const Open& open)
      : expected_(expected),
        boot_(with.boot),
        policy_(with.policy),
        explanations_(with.explanations),
        open_(open),
        changes_(with.changes) {
    if (open.grub_config) grub_.emplace(boot_, explanations_);
  }

  std::vector<Difference> run() {
    if (!grub_) grub_.emplace(boot_, explanations_);  // for the words
    compare_all();
    std::ranges::sort(differences_, [](const Difference& a, const Difference& b) {
      if (a.weight != b.weight) return a.weight > b.weight;
      int rank_a = rank(a.code);
      int rank_b = rank(b.code);
      return std::tie(rank_a, a.pcr, a.nth) < std::tie(rank_b, b.pcr, b.nth);
    });
    return std::move(differences_);
  }

  DifferenceCount count() {
    words_ = false;
    compare_all();
    return {.all = differences_.size(), .failures = failures(differences_)};
  }

 private:
  void compare_all() {
    if (as_expected()) return;
    split();
    // PCR 7 first: what may change elsewhere can hang on it.
    compare_pcr(7);
    keys_as_expected_ = policy_.pcrs[7].rule != PcrRule::kIgnore && boot_.pcrs()[7] &&
                        std::ranges::none_of(differences_, [](const Difference& d) {
                          return d.weight == Weight::kFailure || d.code != "dbx_grew";
                        });
    for (uint8_t pcr = 0; pcr < kPcrCount; ++pcr) {
      if (pcr != 7) compare_pcr(pcr);
    }
  }

  // The usual case, told without setting up lists: each digest is the expected one in its place.
  bool as_expected() const {
    const std::vector<Measurement>& measured = boot_.measurements();
    size_t at = 0;
    const auto pass_over = [&] {
      while (at < measured.size() && !compared(measured[at])) ++at;
    };
    for (const BaselineEntry& entry : expected_.entries) {
      if (!compared(entry.pcr, entry.kind)) continue;
      pass_over();
      if (at == measured.size() || measured[at].pcr != entry.pcr ||
          !equal(measured[at].digest, entry.digest)) {
        return false;
      }
      ++at;
    }
    pass_over();
    return at == measured.size();
  }

  void split() {
    std::array<uint32_t, kPcrCount> counts{};
    for (const BaselineEntry& entry : expected_.entries) {
      uint32_t nth = ++counts[entry.pcr];
      if (!compared(entry.pcr, entry.kind)) continue;
      was_[entry.pcr].digests.push_back(entry.digest);
      was_[entry.pcr].entries.push_back(&entry);
      was_[entry.pcr].nths.push_back(nth);
      count_program(was_[entry.pcr], entry.kind);
    }
    for (const Measurement& m : boot_.measurements()) {
      if (!compared(m)) continue;
      is_[m.pcr].digests.push_back(m.digest);
      is_[m.pcr].measurements.push_back(&m);
      count_program(is_[m.pcr], m.kind);
    }
  }

  static void count_program(Side& side, MeasurementKind kind) {
    uint32_t before = side.programs.empty() ? 0 : side.programs.back();
    side.programs.push_back(before + (kind == MeasurementKind::kProgram ? 1 : 0));
  }

  void compare_pcr(uint8_t pcr) {
    PcrRule rule = policy_.pcrs[pcr].rule;
    if (!boot_.pcrs()[pcr]) return;
    if (rule == PcrRule::kIgnore || rule == PcrRule::kValues) return;
    for (const Alignment& at : differing(was_[pcr].digests, is_[pcr].digests)) {
      const BaselineEntry* was = at.was ? was_[pcr].entries[*at.was] : nullptr;
      const Measurement* is = at.is ? is_[pcr].measurements[*at.is] : nullptr;
      Difference d{.pcr = pcr};
      d.kind = was == nullptr  ? Difference::Kind::kAdded
               : is == nullptr ? Difference::Kind::kMissing
                               : Difference::Kind::kChanged;
      d.nth = is != nullptr ? is->nth : was_[pcr].nths[*at.was];
      if (is != nullptr) {
        d.event = is->event;
        d.extend = is->extend;
      }
      d.weight = rule == PcrRule::kNote ? Weight::kNote : Weight::kFailure;
      if (words_) {
        if (is != nullptr) {
          is_entry_ = entry_of(*is, explanations_);
          d.is = name_of(is_entry_);
        }
        if (was != nullptr) d.was = name_of(*was);
        program_ = at.is ? is_[pcr].programs[*at.is] : was_[pcr].programs[*at.was];
        say(d, was, is);
      } else {
        d.code = code_of_harmless(d, was, is);
      }
      weigh(d, rule, was, is);
      differences_.push_back(std::move(d));
    }
  }

  // What is allowed to change after all.
  void weigh(Difference& d, PcrRule rule, const BaselineEntry* was, const Measurement* is) const {
    if (rule == PcrRule::kSigned && keys_as_expected_ && is_program(was, is)) {
      d.weight = Weight::kNote;
    }
    if (open_.pcrs[d.pcr] && keys_as_expected_) d.weight = Weight::kNote;
    if (open_.grub_config && keys_as_expected_ && grub_->explains(was, is)) {
      d.weight = Weight::kNote;
    }
    if (d.code == "dbx_grew" && policy_.dbx_growth == Allow::kAllow) d.weight = Weight::kNote;
    if (d.code == "grub_environment_changed") d.weight = Weight::kNote;
  }

  // The codes that weigh() asks for; say() gives the same ones.
  std::string code_of_harmless(const Difference& d, const BaselineEntry* was,
                               const Measurement* is) const {
    if (was == nullptr || is == nullptr) return {};
    if (is->kind == MeasurementKind::kKeyVariable && dbx_grew(variable_name(d, was, is), was, is)) {
      return "dbx_grew";
    }
    return is_file(was, is) && environment_changed(*was, *is) ? "grub_environment_changed" : "";
  }

  bool dbx_grew(std::string_view name, const BaselineEntry* was, const Measurement* is) const {
    if (name != "dbx") return false;
    const DatabaseChange* change = change_of(name, was, is);
    return change != nullptr && change->removed_count == 0 && change->added_count > 0;
  }

  // Null if one of the contents is not known or cannot be read.
  const DatabaseChange* change_of(std::string_view name, const BaselineEntry* was,
                                  const Measurement* is) const {
    auto before = expected_.variables.find(name);
    bool known =
        is != nullptr && was != nullptr && is->name == name && before != expected_.variables.end();
    if (!known) return nullptr;
    const DatabaseChange& change = changes_.of(before->second, is->content);
    return change.readable ? &change : nullptr;
  }

  // A digest without data says no kind; what was expected in its place does.
  static MeasurementKind kind_of(const BaselineEntry* was, const Measurement* is) {
    bool told = is != nullptr && (is->kind != MeasurementKind::kOther || was == nullptr);
    return told ? is->kind : was->kind;
  }
  static bool is_file(const BaselineEntry* was, const Measurement* is) {
    return kind_of(was, is) == MeasurementKind::kFile;
  }

  // GRUB keeps what it remembers between boots in this file; what it makes of it is measured.
  bool environment_changed(const BaselineEntry& was, const Measurement& is) const {
    auto environment = [](const BaselineEntry& e) { return e.what.ends_with("/grubenv)"); };
    return environment(was) && environment(entry_of(is, explanations_));
  }

  static bool is_program(const BaselineEntry* was, const Measurement* is) {
    return (was == nullptr || was->kind == MeasurementKind::kProgram) &&
           (is == nullptr || is->kind == MeasurementKind::kProgram);
  }

  void say(Difference& d, const BaselineEntry* was, const Measurement* is) {
    switch (kind_of(was, is)) {
      case MeasurementKind::kProgram:
        return say_program(d, was, is);
      case MeasurementKind::kKernelCommandLine:
        return say_command_line(d, was, is);
      case MeasurementKind::kKeyVariable:
        return say_key_variable(d, was, is);
      case MeasurementKind::kAuthority:
        return say_authority(d, was, is);
      case MeasurementKind::kMok:
        d.code = "mok_changed";
        d.words = fmt::format("shim's MOK state ({}) is not the expected one", place(d));
        return;
      case MeasurementKind::kFile:
        return say_file(d, was, is);
      default:
        d.code = d.pcr == 0 ? "firmware_changed" : "pcr_changed";
        d.words = plain(d, was, is);
    }
    if (grub_config(was, is)) d.code = "grub_config_changed";
  }

  bool grub_config(const BaselineEntry* was, const Measurement* is) const {
    return (was != nullptr && is_grub_config(*was)) ||
           (is != nullptr && is_grub_config(is_entry_)) || grub_->explains(was, is);
  }

  static std::string place(const Difference& d) {
    std::string text = fmt::format("extend {} of PCR {}", d.nth, d.pcr);
    if (d.event) text += fmt::format(", event {}", *d.event);
    return text;
  }

  std::string plain(const Difference& d, const BaselineEntry* was, const Measurement* is) const {
    if (was == nullptr) {
      return fmt::format("{} measured {} ({}), which the baseline does not have", pcr_words(d.pcr),
                         d.is, place(d));
    }
    if (is == nullptr) {
      return fmt::format("{} lacks {}, extend {} of the baseline's PCR {}", pcr_words(d.pcr), d.was,
                         d.nth, d.pcr);
    }
    if (is_entry_.what.empty() && is_entry_.text.empty() && d.was != d.is) {
      return fmt::format(
          "{} measured something else in the place of {}: its digest is {}, expected "
          "{} ({})",
          pcr_words(d.pcr), d.was, short_hex(is->digest), short_hex(was->digest), place(d));
    }
    if (d.was == d.is) {
      return fmt::format("{}: {} is {}, expected {} ({})", pcr_words(d.pcr), d.is,
                         short_hex(is->digest), short_hex(was->digest), place(d));
    }
    return fmt::format("{} measured {}, expected {} ({})", pcr_words(d.pcr), d.is, d.was, place(d));
  }

  static std::string_view pcr_words(uint8_t pcr) {
    constexpr std::array<std::string_view, 16> kNames = {"the firmware",
                                                         "the firmware's settings",
                                                         "option ROMs",
                                                         "option ROM settings",
                                                         "the boot path",
                                                         "disk layout and boot attempts",
                                                         "the platform",
                                                         "Secure Boot",
                                                         "the boot loader",
                                                         "the boot loader",
                                                         "IMA",
                                                         "the unified kernel image",
                                                         "boot parameters",
                                                         "system extensions",
                                                         "shim",
                                                         "the operating system"};
    return pcr < kNames.size() ? kNames[pcr] : "this register";
  }

  void say_program(Difference& d, const BaselineEntry* was, const Measurement* is) const {
    if (was == nullptr) {
      d.code = "program_added";
      d.words = fmt::format("{} was loaded ({}), which the baseline does not have",
                            program_words(is_entry_), place(d));
      return;
    }
    if (is == nullptr) {
      d.code = "program_missing";
      d.words = fmt::format("{} was not loaded", program_words(*was));
      return;
    }
    d.code = "program_changed";
    const BaselineEntry& now = is_entry_;
    std::string subject =
        now.what.empty() ? fmt::format("the program in the place of {}", d.was) : now.what;
    if (!now.signers.empty() && !was->signers.empty() && now.signers != was->signers) {
      d.words =
          fmt::format("{} is signed by {}, expected {} signed by {} ({})", subject,
                      joined(now.signers, " and "), d.was, joined(was->signers, " and "), place(d));
      return;
    }
    d.words = fmt::format("{} is another than expected: its digest is {}, expected {}{}{} ({})",
                          subject, short_hex(is->digest), short_hex(was->digest),
                          was->what.empty() || was->what == now.what ? "" : ", " + was->what,
                          now.signers.empty() ? ""
                                              : ", signed by " + joined(now.signers, " and ") +
                                                    (was->signers.empty() ? "" : " like it"),
                          place(d));
  }

  std::string program_words(const BaselineEntry& entry) const {
    std::string words = entry.what.empty() ? fmt::format("program {} of the boot, with digest {},",
                                                         program_, short_hex(entry.digest))
                                           : entry.what;
    if (!entry.signers.empty()) words += ", signed by " + joined(entry.signers, " and ");
    return words;
  }

  void say_command_line(Difference& d, const BaselineEntry* was, const Measurement* is) const {
    d.code = "command_line_changed";
    if (is != nullptr && was != nullptr && !is->text.empty() && !was->text.empty()) {
      d.words = fmt::format("the kernel command line is {}, expected {} ({})", quoted(is->text),
                            quoted(was->text), place(d));
      return;
    }
    d.words = plain(d, was, is);
  }

  void say_file(Difference& d, const BaselineEntry* was, const Measurement* is) const {
    d.code = grub_config(was, is) ? "grub_config_changed" : "file_changed";
    d.words = plain(d, was, is);
    if (was == nullptr || is == nullptr) return;
    if (environment_changed(*was, *is)) d.code = "grub_environment_changed";
  }

  // Firmware measures them in a fixed order, so that a record without a log still tells them apart.
  static std::string variable_name(const Difference& d, const BaselineEntry* was,
                                   const Measurement* is) {
    if (is != nullptr && !is->name.empty()) return is->name;
    if (was != nullptr && was->what.starts_with("Secure Boot ")) return "SecureBoot";
    if (was != nullptr && !was->what.empty()) return was->what;
    constexpr std::array<std::string_view, 5> kOrder = {"SecureBoot", "PK", "KEK", "db", "dbx"};
    return std::string(d.nth >= 1 && d.nth <= kOrder.size() ? kOrder[d.nth - 1]
                                                            : "a Secure Boot variable");
  }

  void say_key_variable(Difference& d, const BaselineEntry* was, const Measurement* is) const {
    std::string name = variable_name(d, was, is);
    if (name == "SecureBoot") {
      d.code = "secure_boot_changed";
      std::string now = is == nullptr ? "not measured" : is_entry_.what;
      d.words = was == nullptr ? fmt::format("{} ({})", now, place(d))
                               : fmt::format("{}, expected {} ({})", now, d.was, place(d));
      return;
    }
    d.code = name + "_changed";
    std::ranges::transform(d.code, d.code.begin(),
                           [](char c) { return c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c; });
    const DatabaseChange* change = change_of(name, was, is);
    if (change == nullptr) {
      d.words = fmt::format("{} is not what the baseline has ({})", name, place(d));
      return;
    }
    if (dbx_grew(name, was, is)) d.code = "dbx_grew";
    d.words = database_words(name, *change) + fmt::format(" ({})", place(d));
  }

  static std::string database_words(std::string_view name, const DatabaseChange& change) {
    std::string words;
    if (change.added_count > 0) {
      words = fmt::format("{} has what the baseline has not: {}", name, joined(change.added, ", "));
    }
    if (change.removed_count > 0) {
      words += fmt::format("{} the baseline has: {}",
                           words.empty() ? fmt::format("{} lacks what", name) : "; it lacks what",
                           joined(change.removed, ", "));
    }
    return words.empty() ? fmt::format("{} has the same entries in another order", name) : words;
  }

  void say_authority(Difference& d, const BaselineEntry* was, const Measurement* is) const {
    d.code = "authority_changed";
    if (is != nullptr && is_entry_.what.empty()) {
      d.words = fmt::format("a program at boot was vouched for by a certificate that {}{} ({})",
                            was == nullptr ? "the baseline does not have" : "is not ",
                            was == nullptr ? "" : d.was, place(d));
      return;
    }
    if (is != nullptr && was != nullptr && was->kind == MeasurementKind::kAuthority) {
      d.words = fmt::format("a program at boot was vouched for by {}, expected {} ({})", d.is,
                            d.was, place(d));
      return;
    }
    if (is == nullptr) {
      d.words =
          fmt::format("no program at boot was vouched for by {}, as the baseline expects", d.was);
      return;
    }
    d.words = fmt::format(
        "a program at boot was vouched for by {}, which the baseline does not "
        "have ({})",
        d.is, place(d));
  }

  const BaselineBoot& expected_;
  const MeasuredBoot& boot_;
  const Policy& policy_;
  const Explanations& explanations_;
  Open open_;
  std::optional<GrubConfig> grub_;
  DatabaseChanges& changes_;
  bool words_ = true;
  bool keys_as_expected_ = true;
  std::array<Side, kPcrCount> was_;
  std::array<Side, kPcrCount> is_;
  BaselineEntry is_entry_;  // of the difference at hand
  uint32_t program_ = 0;    // its number among the programs loaded
  std::vector<Difference> differences_;
};

}  // namespace

size_t failures(const std::vector<Difference>& differences) {
  return static_cast<size_t>(
      std::ranges::count(differences, Weight::kFailure, &Difference::weight));
}

std::vector<Difference> differences_of(const BaselineBoot& expected, const Compared& with,
                                       const Open& open) {
  return Comparison(expected, with, open).run();
}

DifferenceCount count_differences(const BaselineBoot& expected, const Compared& with,
                                  const Open& open) {
  return Comparison(expected, with, open).count();
}

}  // namespace hf::attestation
