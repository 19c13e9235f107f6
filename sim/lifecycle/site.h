// A site of the lifecycle's simulator: a host with a launcher, a vault, a daemon and one VM's
// keeper and guest, each of which can be killed at any moment. What the daemon does next is the
// product's own lifecycle::Machine's to say; what is signed, released and opened the product's own
// vault::Titles'.
#pragma once

#include <functional>
#include <memory>

#include "lifecycle/machine.h"
#include "sim/lifecycle/data.h"
#include "sim/lifecycle/site_vault.h"

namespace hf::sim::life {

class World;

enum class KeeperKind : uint8_t { kNone, kKeyed, kReplica };
struct Keeper {
  KeeperKind kind = KeeperKind::kNone;
  bool opened = false;  // keyed: the gate is open, it serves
  bool sealed = false;  // replica
  uint64_t life = 0;
};

// What one daemon asks another. One struct for all: it is passed in memory.
struct Question {
  enum class Kind : uint8_t { kTitle, kHandOver, kOffer, kWithdraw };
  Kind kind = Kind::kTitle;
  std::vector<Digest> known;
  Bytes bundle;
  std::optional<title::Question> question;
};
struct Reply {
  bool done = false;
  std::vector<Digest> known;
  Bytes bundle;
  Bytes answer;
};

enum class Fate : uint8_t { kNone, kQuestionLost, kAnswerLost, kDoubled, kLate };

// An operator's command or another site's order, on its way.
struct Doing {
  lifecycle::Machine machine;
  title::Token word;
  uint64_t daemon = 0;  // the life of the process that does it
  uint64_t bar = 0;
  bool turn = false;  // it has the VM's turn
  bool over = false;
  std::optional<title::Line> theirs;
  Epoch epoch;  // the record's, as a start began
  std::function<void(const lifecycle::Step&)> then;
};
using DoingPtr = std::shared_ptr<Doing>;

class Site {
 public:
  Site(World& world, std::string name, const SiteId& id, SimRng rng);

  // ---- By the world ----
  void create();  // the VM, here
  void kill_daemon();
  void kill_vault();
  void kill_keeper();
  void kill_host(uint64_t back_after_us);
  void mend();  // what is down comes back soon
  // An operator's command. False: another job works on the VM.
  bool command(lifecycle::Wish wish, const title::Token& word = {},
               std::function<void(const lifecycle::Step&)> then = {});
  bool busy() const { return job_ != nullptr || turn_ != nullptr; }
  bool job() const { return job_ != nullptr; }
  void delete_copy();  // of a VM that another site has
  // Of a conflict ("failover settle --keep OTHER", control/protection/settlements): exchange first.
  // What was here is set aside, and it is seeded anew. False: not for now.
  bool give_up_to(Site& keep);
  void talk_to(Site& other);
  void guest_works();
  void guest_stops_itself();
  void guest_dies();  // QEMU alone; its keeper goes on
  void lose_replica_unit();
  void ship_to(Site& other);
  void peer_came();     // its link is there
  void peer_refuses();  // it takes no records: what does it know?
  void learn_forged(const SiteId& from, const Bytes& bundle);
  uint64_t daemon_life() const { return daemon_life_; }
  bool able() const { return host_up && daemon_up && vault.up(); }  // to fence
  std::string describe();
  void look();  // what follows from the title may have changed

  bool runs() const { return guest && keeper.kind == KeeperKind::kKeyed && keeper.opened; }
  bool may_answer() const { return host_up && daemon_up; }
  std::optional<lifecycle::Title> title();

  World& world;
  const std::string name;
  const SiteId id;
  SiteVault vault;
  bool host_up = true;
  bool daemon_up = true;
  // Durable.
  bool has_vm = false;
  lifecycle::Record record;
  std::optional<lifecycle::Protection> protection;
  Data data;
  // Processes.
  Keeper keeper;
  bool guest = false;
  uint64_t bar = 0;

  // Another site's question, at once; `reply` may come later, or never.
  void serve(const Question& question, Site& from, std::function<void(Reply)> reply);

 private:
  using Ended = lifecycle::Ended;
  using Effect = lifecycle::Effect;
  using Step = lifecycle::Step;
  using Then = std::function<void(Ended)>;

  bool alive(const DoingPtr& act) const {
    return daemon_up && act->daemon == daemon_life_ && !act->over;
  }
  lifecycle::Observed observe();
  void advance(DoingPtr act);
  void finish(DoingPtr act, const Step& step);
  void begin(const DoingPtr& act, const Step& step, Then then);
  bool begin_message(const DoingPtr& act, const Step& step, const Then& then);
  bool store(const DoingPtr& act, const Step& step);
  void begin_process(const DoingPtr& act, const Step& step, const Then& then);
  void sign(const DoingPtr& act, const Step& step, const Then& then);
  void start_keeper(const DoingPtr& act, const Then& then);
  void await_gate(const DoingPtr& act, uint64_t life, uint64_t until, uint64_t asked,
                  const Then& then);
  void ship_tail(const DoingPtr& act, uint64_t until, const Then& then);

  struct Exchanged {
    title::Answer answer;
  };
  using HeardOf = std::function<void(std::optional<Exchanged>)>;
  void exchange(Site& with, Fate fate, uint64_t until, int rounds, Bytes bundle, HeardOf then);
  void ask_members(Fate fate, uint64_t limit, std::function<void(std::vector<SiteId>)> then);
  bool learn(const SiteId& from, ByteSpan bundle, bool begin = false);
  void settle();
  void fence_now();
  void hand_over(Site& to, std::function<void(Reply)> reply, uint64_t until);

  void set_guest(bool on);
  void end_keeper_unit();
  void close_keeper();
  void start_replica_unit();
  void keeper_comes_back();
  void keeper_tries(uint64_t life);
  void start_vault();
  void start_daemon();
  void start_host();
  void check_open();
  uint64_t now() const;
  void after(uint64_t delay_us, std::function<void()> what);

  SimRng rng_;
  uint64_t daemon_life_ = 1;
  uint64_t vault_life_ = 1;
  uint64_t host_life_ = 1;
  DoingPtr job_;   // an operator's
  DoingPtr turn_;  // what follows, or another site's order
  bool stream_ = false;
  Digest told_;  // the other site's head, as it last said
  bool follow_due_ = false;
  uint64_t follow_pause_ = 100'000;
  bool start_again_ = false;
  bool asking_peer_ = false;
  uint64_t ask_peer_at_ = 0;
};

}  // namespace hf::sim::life
