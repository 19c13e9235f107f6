// A world of two sites, the link between them, an operator, and what is true of the VM as a whole.
//
// Checked all the time: the VM's guest runs at one site only, unless a word was mistaken and the
// other site has not heard; what a guest was promised is there when the VM is opened again, but for
// what the statement under which it is opened gives up. In the end, everything mended: it runs at
// one site and is protected by the other, by what goes on by itself and the commands that errors
// name.
#pragma once

#include <fmt/format.h>

#include <map>

#include "sim/lifecycle/cases.h"
#include "sim/lifecycle/site.h"
#include "title/testing/keyed_signer.h"

namespace hf::sim::life {

class World {
 public:
  struct Options {
    uint64_t seed = 0;
    Fault fault = Fault::kNone;
    bool tracing = false;
    bool real_signatures = false;
  };
  explicit World(const Options& options);
  ~World();

  void run_seed();
  void run_case(const Case& which);
  const std::optional<std::string>& verdict() const { return verdict_; }
  const std::vector<std::string>& trace() const { return trace_; }
  uint64_t events() const { return events_; }
  uint64_t changes() const { return changes_; }
  uint64_t conflicts() const { return conflicts_; }
  bool case_reached() const { return reached_case_; }
  using Reached = std::array<std::array<uint32_t, lifecycle::kEffects>, lifecycle::kActs>;
  const Reached& reached() const { return reached_; }

  // ---- For sites ----
  const title::Signer& signer(const SiteId& site) const;
  const title::Verifier& verifier() const;
  Site& site(const SiteId& id) { return id == a_->id ? *a_ : *b_; }
  Site& other(const Site& site) { return &site == a_.get() ? *b_ : *a_; }
  void vm_is(const VmId& vm);
  bool connected(const Site& from, const Site& to) const {
    return link && from.may_answer() && to.may_answer();
  }
  void call(Site& from, Site& to, const Question& question, Fate fate, uint64_t limit,
            std::function<void(std::optional<Reply>)> then);
  uint64_t next_record() { return ++records_; }
  void event() { ++events_; }
  void reach(lifecycle::Act act, lifecycle::Effect effect) {
    ++reached_[static_cast<size_t>(act)][static_cast<size_t>(effect)];
  }
  // An effect is about to begin, or has ended and its daemon doesn't know yet: where kills fall.
  void before(Site& at, lifecycle::Act act, lifecycle::Effect effect);
  void after(Site& at, lifecycle::Act act, lifecycle::Effect effect);
  Fate fate(Site& at, lifecycle::Act act, lifecycle::Effect effect);
  void signed_here(Site& at, const vault::TitleView& view);
  void promised(Site& at);
  void opened(Site& at);
  void guest_started(Site& at);
  void forgotten(const Site& at) { last_word_.erase(at.id); }
  void check_alone(Site& at);

  bool ships() const { return ships_; }
  bool refuses_withdrawal() { return std::exchange(refuses_withdrawal_, false); }
  bool slow_start() { return std::exchange(slow_start_, false); }
  bool guest_fails() { return fail_guests_ > 0 && fail_guests_-- > 0; }

  template <typename... Args>
  void note(fmt::format_string<Args...> format, Args&&... args) {
    if (tracing_) write(fmt::format(format, std::forward<Args>(args)...));
  }
  template <typename... Args>
  void violated(fmt::format_string<Args...> format, Args&&... args) {
    if (!verdict_) verdict_ = fmt::format(format, std::forward<Args>(args)...);
    if (tracing_) write("VIOLATED " + fmt::format(format, std::forward<Args>(args)...));
  }

  Scheduler scheduler;
  const Fault fault;
  SimRng rng;
  const crypto::Secret kek;
  bool link = true;

 private:
  void write(const std::string& line);
  void tick();
  void run_for(uint64_t us);
  bool run_until(uint64_t limit_us, const std::function<bool()>& what);
  void kill(Site& at, Victim victim);
  void hit(Site& at, const Case& which);
  void cut_link(uint64_t us);

  // The operator.
  bool runs_alone_and_protected();
  void check_nothing_is_dropped();
  void operate();  // one command, where one leads on
  bool mend_by_command(Site& at);
  bool settle_rivals();
  bool has_rivals();
  void misfortune();
  void lose_site(Site& at);
  void mistake(Site& holder);
  void lose_seeding(Site& holder);
  void forge();
  void take_on_word(Site& by);
  void start_at(Site& at);
  bool knows_newest(Site& at);
  bool settle_down(uint64_t limit_us);
  void begin_protected();

  // Cases.
  void set_up(const Case& which);

  const bool tracing_;
  const bool real_;
  std::map<SiteId, std::unique_ptr<title::Signer>> signers_;
  std::map<SiteId, crypto::SigningKey> keys_;
  std::unique_ptr<title::Verifier> verifier_;
  std::unique_ptr<Site> a_, b_;
  VmId vm_;
  std::optional<std::string> verdict_;
  std::vector<std::string> trace_;
  uint64_t events_ = 0, changes_ = 0, conflicts_ = 0, records_ = 0;
  uint64_t heal_ = 0;  // a cut link that is cut again heals later
  bool chaos_ = false;
  bool mistaken_ = false;               // a word was, at some time
  bool given_up_ = false;               // a statement on a word came after the last opening
  std::map<SiteId, Digest> last_word_;  // that it has signed, and not forgotten
  title::Line truth_;                   // the end of what the guest was promised
  std::optional<SiteId> owner_;         // by whom
  Digest newest_;                       // statement, wherever
  std::optional<SiteId> taken_by_;      // that statement: on a word
  uint64_t both_since_ = 0;             // that both run, and one should not
  bool ships_ = true;
  int fail_guests_ = 0;
  bool slow_start_ = false;  // the next keeper takes its time
  bool refuses_withdrawal_ = false;
  std::optional<Case> scene_kill_;                // of a daemon, to bring the scene about
  std::optional<lifecycle::Effect> scene_loses_;  // the next such question, likewise
  std::optional<Case> case_;
  bool reached_case_ = false;
  Reached reached_{};
};

}  // namespace hf::sim::life
