#include <signal.h>

#include "launcher/test_site.h"
#include "sys/bounded_io.h"

namespace hf::launcher {
namespace {

using std::chrono::milliseconds;
constexpr milliseconds kLimit{5000};

TEST(Supervisor, starts_a_unit_and_tells_of_its_end_with_its_last_words) {
  TestSite site;
  RunningSupervisor running(site, "echo some words >&2; exit 3");
  auto pid = running.client().start(running.keeper(test_vm(1)), {}, kLimit);
  ASSERT_TRUE(pid.ok()) << pid.error().describe();
  Event event = running.wait_for(Event::Kind::kExited, "keeper-1");
  EXPECT_EQ(event.pid, *pid);
  EXPECT_EQ(event.exit_status, 3);
  EXPECT_EQ(event.stderr_tail, "some words\n");
  EXPECT_FALSE(event.will_restart);
  EXPECT_EQ(site.read("run/log/keeper-1.log"), "some words\n");
  auto status = running.client().status(kLimit);
  ASSERT_TRUE(status.ok());
  ASSERT_EQ(status->units.size(), 1u);
  EXPECT_FALSE(status->units.at(0).running);
  EXPECT_EQ(status->units.at(0).exit_status, 3);
}

TEST(Supervisor, hands_down_sockets_config_and_files_by_number_and_nothing_else) {
  TestSite site;
  RunningSupervisor running(
      site,
      "echo \"$LISTEN_PID=$$ $LISTEN_FDS $LISTEN_FDNAMES\" >&2; cat <&4 >&2; cat <&5 >&2;"
      "echo >&2; ls -C /proc/self/fd >&2;"
      "env | grep -v -e ^LISTEN -e ^_ -e ^SHLVL -e ^PWD -e ^OLDPWD | cut -d= -f1 | sort >&2;"
      "grep -e ^NoNewPrivs -e ^SigIgn -e ^SigBlk /proc/self/status >&2; ulimit -c >&2; umask >&2");
  StartRequest request = running.keeper(test_vm(1));
  std::string directory = "run/vms/" + test_vm(1).hex();
  request.sockets = {{.name = "disk1", .path = directory + "/disk1.nbd"}};
  request.config = sys::JsonObject{{"mode", "serve"}};
  request.fd_names = {"image1"};
  auto image = sys::sealed_memfd("image", as_bytes("IMAGE"));
  ASSERT_TRUE(image.ok());
  auto pid = running.client().start(request, {image->get()}, kLimit);
  ASSERT_TRUE(pid.ok()) << pid.error().describe();
  Event event = running.wait_for(Event::Kind::kExited, "keeper-1");
  std::string number = std::to_string(*pid);
  EXPECT_EQ(event.stderr_tail, number + "=" + number +
                                   " 3 disk1:config:image1\n"
                                   "{\"mode\":\"serve\"}IMAGE\n"
                                   "0  1  2  3  4  5  6\n"
                                   "HOLDFAST_DAEMON_UID\nHOLDFAST_STATE\nLANG\nPATH\n"
                                   "SigBlk:\t0000000000000000\nSigIgn:\t0000000000001000\n"
                                   "NoNewPrivs:\t1\n0\n0077\n")
      << "6 is the directory that ls reads";
}

TEST(Supervisor, a_killed_unit_is_back_within_milliseconds_with_the_same_listener) {
  TestSite site;
  // What accepts is the test's business: the listener only has to stay.
  RunningSupervisor running(site, "exec sleep 60");
  StartRequest request = running.keeper(test_vm(1));
  std::string path = "run/vms/" + test_vm(1).hex() + "/disk1.nbd";
  request.sockets = {{.name = "disk1", .path = path}};
  request.restart = RestartPolicy::kAlways;
  auto pid = running.client().start(request, {}, kLimit);
  ASSERT_TRUE(pid.ok()) << pid.error().describe();
  struct stat before{};
  ASSERT_EQ(::stat(site.file(path).c_str(), &before), 0);
  auto killed = std::chrono::steady_clock::now();
  ASSERT_EQ(::kill(static_cast<pid_t>(*pid), SIGKILL), 0);
  auto connection = sys::connect_unix_within(site.file(path), milliseconds(100));
  EXPECT_TRUE(connection.ok());
  Event started = running.wait_for(Event::Kind::kStarted, "keeper-1");
  EXPECT_LT(std::chrono::steady_clock::now() - killed, milliseconds(500));
  EXPECT_GT(started.pid, 0);
  EXPECT_NE(started.pid, *pid);
  Event exited = running.wait_for(Event::Kind::kExited, "keeper-1");
  EXPECT_EQ(exited.signal, SIGKILL);
  EXPECT_TRUE(exited.will_restart);
  struct stat after{};
  ASSERT_EQ(::stat(site.file(path).c_str(), &after), 0);
  EXPECT_EQ(before.st_ino, after.st_ino);
  auto status = running.client().status(kLimit);
  ASSERT_TRUE(status.ok());
  EXPECT_EQ(status->units.at(0).restarts, 1u);
  // Once it is stopped for good the socket goes.
  ASSERT_TRUE(running.client().stop({.unit = "keeper-1"}, kLimit).ok());
  EXPECT_NE(::stat(site.file(path).c_str(), &after), 0);
}

// A daemon that lost an answer may start a VM's next keeper before the last one has ended.
TEST(Supervisor, a_unit_that_ends_takes_no_socket_with_it_that_another_made) {
  TestSite site;
  RunningSupervisor running(site, "exec sleep 60");
  std::string path = "run/vms/" + test_vm(1).hex() + "/control.sock";
  for (const char* unit : {"keeper-1", "keeper-2"}) {
    StartRequest request = running.keeper(test_vm(1), unit);
    request.sockets = {{.name = "control", .path = path, .access = SocketAccess::kDaemon}};
    auto started = running.client().start(request, {}, kLimit);
    ASSERT_TRUE(started.ok()) << started.error().describe();
  }
  ASSERT_TRUE(running.client().stop({.unit = "keeper-1"}, kLimit).ok());
  EXPECT_TRUE(sys::connect_unix_within(site.file(path), milliseconds(1000)).ok());
  ASSERT_TRUE(running.client().stop({.unit = "keeper-2"}, kLimit).ok());
  struct stat status{};
  EXPECT_NE(::stat(site.file(path).c_str(), &status), 0) << "its own goes";
}

TEST(Supervisor, a_unit_that_says_why_it_cannot_start_is_not_tried_again) {
  TestSite site;
  RunningSupervisor running(
      site,
      R"(echo '{"error":{"code":"corrupt","cause":"c","effect":"e","mend":"m"}}' >&2; exit 1)");
  StartRequest request = running.keeper(test_vm(1));
  request.restart = RestartPolicy::kAlways;
  ASSERT_TRUE(running.client().start(request, {}, kLimit).ok());
  Event event = running.wait_for(Event::Kind::kExited, "keeper-1");
  EXPECT_FALSE(event.will_restart);
  auto reason = sys::find_start_failure(event.stderr_tail);
  ASSERT_TRUE(reason.has_value());
  EXPECT_EQ(reason->code, ErrorCode::kCorrupt);
}

TEST(Supervisor, stop_escalates_to_kill_and_answers_when_the_process_is_gone) {
  TestSite site;
  RunningSupervisor running(site, "true");
  auto pid = running.client().start(
      running.shell(test_vm(1), "trap '' TERM; echo up >&2; while :; do sleep 0.05; done"), {},
      kLimit);
  ASSERT_TRUE(pid.ok()) << pid.error().describe();
  ASSERT_TRUE(eventually([&] { return site.read("run/log/qemu-1.log") == "up\n"; }));
  auto start = std::chrono::steady_clock::now();
  ASSERT_TRUE(running.client().stop({.unit = "qemu-1", .timeout_ms = 200}, kLimit).ok());
  EXPECT_GE(std::chrono::steady_clock::now() - start, milliseconds(190));
  EXPECT_NE(::kill(static_cast<pid_t>(*pid), 0), 0);
  EXPECT_EQ(running.wait_for(Event::Kind::kExited, "qemu-1").signal, SIGKILL);
  EXPECT_TRUE(running.client().stop({.unit = "qemu-1"}, kLimit).ok()) << "stopping twice is fine";
}

TEST(Supervisor, refuses_what_the_daemon_may_not_ask_and_leaves_nothing_behind) {
  TestSite site;
  RunningSupervisor running(site, "exec sleep 60");
  auto code = [&](const StartRequest& request) {
    auto started = running.client().start(request, {}, kLimit);
    return started.ok() ? ErrorCode::kInternal : started.error().code;
  };
  std::string mine = "run/vms/" + test_vm(1).hex();
  for (const std::string& path :
       {std::string("/etc/x"), std::string("run/vault-admin.sock"), mine + "/../x", mine + "/a/b",
        mine + "/.hidden", mine + "/", "run/vms/" + test_vm(2).hex() + "/disk1.nbd"}) {
    StartRequest request = running.keeper(test_vm(1));
    request.sockets = {{.name = "disk1", .path = path}};
    EXPECT_EQ(code(request), ErrorCode::kInvalidArgument) << path;
  }
  // Their logs, process files and messages would be taken for the site's own.
  for (const char* own : {"vault", "daemon", "link", "launcher"}) {
    EXPECT_EQ(code(running.keeper(test_vm(1), own)), ErrorCode::kInvalidArgument) << own;
  }
  StartRequest machine = running.keeper(test_vm(1));
  machine.machine = test_machine();
  EXPECT_EQ(code(machine), ErrorCode::kInvalidArgument) << "a keeper is no machine";
  StartRequest qemu = running.shell(test_vm(1), "true");
  qemu.sockets = {{.name = "x", .path = mine + "/x"}};
  EXPECT_EQ(code(qemu), ErrorCode::kInvalidArgument) << "QEMU's sockets are the launcher's choice";
  StartRequest name = running.shell(test_vm(1), "true");
  name.machine->definition.name = "a,debug-threads=on -plugin /tmp/x.so";
  EXPECT_EQ(code(name), ErrorCode::kInvalidArgument);
  StartRequest build = running.shell(test_vm(1), "true");
  build.machine->definition.firmware.build = Digest();
  EXPECT_EQ(code(build), ErrorCode::kConflict) << "no firmware but the one it was made with";
  StartRequest config = running.keeper(test_vm(1));
  config.config =
      sys::JsonObject{{"journal_dir", site.file("vms/" + test_vm(2).hex() + "/journal")}};
  EXPECT_EQ(code(config), ErrorCode::kPermission);
  StartRequest unnamed = running.keeper(test_vm(1));
  unnamed.fd_names = {"image1"};
  EXPECT_EQ(code(unnamed), ErrorCode::kInvalidArgument);
  EXPECT_NE(::access(site.file("vms/" + test_vm(1).hex()).c_str(), F_OK), 0);
  EXPECT_EQ(running.client().stop({.unit = "keeper-9"}, kLimit).error().code, ErrorCode::kNotFound);
  ASSERT_TRUE(running.client().start(running.keeper(test_vm(1)), {}, kLimit).ok());
  EXPECT_EQ(code(running.keeper(test_vm(1))), ErrorCode::kConflict);
}

TEST(Supervisor, does_not_follow_a_link_planted_in_its_way) {
  TestSite site;
  RunningSupervisor running(site, "exec sleep 60");
  std::string victim = site.file("victim");
  ::mkdir(victim.c_str(), 0700);
  ASSERT_EQ(::symlink(victim.c_str(), site.file("vms/" + test_vm(1).hex()).c_str()), 0);
  EXPECT_FALSE(running.client().start(running.keeper(test_vm(1)), {}, kLimit).ok());
  ASSERT_EQ(::symlink(victim.c_str(), site.file("run/vms/" + test_vm(2).hex()).c_str()), 0);
  EXPECT_FALSE(running.client().start(running.keeper(test_vm(2)), {}, kLimit).ok());
  EXPECT_EQ(::rmdir(victim.c_str()), 0) << "nothing was put into it";
}

TEST(Supervisor, removes_a_vm_only_when_nothing_of_it_runs) {
  TestSite site;
  RunningSupervisor running(site, "exec sleep 60");
  ASSERT_TRUE(running.client().start(running.keeper(test_vm(1)), {}, kLimit).ok());
  ASSERT_TRUE(running.client().start(running.shell(test_vm(1), "exec sleep 60"), {}, kLimit).ok());
  site.write("vms/" + test_vm(1).hex() + "/journal/MANIFEST", "m");
  StopRequest request{.unit = "keeper-1", .remove_vm = test_vm(1)};
  EXPECT_EQ(running.client().stop(request, kLimit).error().code, ErrorCode::kConflict);
  ASSERT_TRUE(running.client().stop({.unit = "qemu-1"}, kLimit).ok());
  ASSERT_TRUE(running.client().stop(request, kLimit).ok());
  EXPECT_NE(::access(site.file("vms/" + test_vm(1).hex()).c_str(), F_OK), 0);
  EXPECT_NE(::access(site.file("run/vms/" + test_vm(1).hex()).c_str(), F_OK), 0);
}

TEST(Supervisor, guests_outlive_a_dead_launcher_and_are_found_by_the_next) {
  TestSite site;
  // This process plays the dead launcher: its supervisor goes away without a shutdown.
  sys::UniqueFd stop(::eventfd(0, EFD_CLOEXEC));
  auto tree = StateTree::open(site.path());
  ASSERT_TRUE(tree.ok());
  SupervisorOptions options;
  options.programs = {.vault = "/bin/false",
                      .daemon = "/bin/false",
                      .keeper = "/bin/bash",
                      .qemu = "/bin/bash",
                      .keeper_arguments = {"-c", "exec sleep 60"}};
  int64_t pid = 0;
  {
    Supervisor first(std::move(*tree), options, stop.get());
    auto socket = first.connect_as_daemon();
    ASSERT_TRUE(socket.ok());
    std::atomic<bool> done = false;
    std::thread loop([&] {
      while (!done) (void)first.step(milliseconds(10));
    });
    Client client(std::move(*socket), nullptr, nullptr);
    StartRequest request{.unit = "keeper-1", .vm = test_vm(1), .vm_number = 3};
    auto before = client.status(kLimit);
    HF_ASSERT(before.ok());
    request.bar = before->first_bar;
    auto started = client.start(request, {}, kLimit);
    done = true;
    loop.join();
    ASSERT_TRUE(started.ok());
    pid = *started;
  }
  RunningSupervisor second(site, "exec sleep 60");
  auto status = second.client().status(kLimit);
  ASSERT_TRUE(status.ok());
  ASSERT_EQ(status->units.size(), 1u);
  EXPECT_EQ(status->units.at(0).pid, pid);
  EXPECT_TRUE(status->units.at(0).running);
  EXPECT_TRUE(second.client().stop({.unit = "keeper-1"}, kLimit).ok());
}

// A request's number is its daemon's own: the next one counts from the beginning.
TEST(Supervisor, the_next_daemon_gets_no_answer_to_what_the_last_one_asked) {
  TestSite site;
  sys::UniqueFd stop(::eventfd(0, EFD_CLOEXEC));
  auto tree = StateTree::open(site.path());
  ASSERT_TRUE(tree.ok());
  SupervisorOptions options;
  options.programs = {.vault = "/bin/false",
                      .daemon = "/bin/false",
                      .keeper = "/bin/bash",
                      .qemu = "/bin/bash",
                      .keeper_arguments = {"-c", "trap '' TERM; while :; do sleep 0.05; done"}};
  Supervisor supervisor(std::move(*tree), options, stop.get());
  auto daemon = supervisor.connect_as_daemon();
  ASSERT_TRUE(daemon.ok());
  auto ask = [&](const Request& request) {
    ASSERT_TRUE(sys::send_message(daemon->get(), as_bytes(encode(request)), {}, kLimit).ok());
  };
  auto next = [&]() -> std::optional<FromLauncher> {
    for (int i = 0; i < 300; ++i) {
      EXPECT_TRUE(supervisor.step(milliseconds(10)).ok());
      auto message = sys::receive_message(daemon->get(), kAnswerBytesMax, milliseconds(0));
      if (!message.ok() || message->data.empty()) continue;
      auto decoded = decode_from_launcher(as_text(message->data));
      EXPECT_TRUE(decoded.ok());
      return *decoded;
    }
    return std::nullopt;
  };
  ask({.verb = Request::Verb::kStatus, .id = 1});
  auto status = next();
  ASSERT_TRUE(status && status->reply);
  ask({.verb = Request::Verb::kStart,
       .id = 2,
       .start = StartRequest{
           .unit = "keeper-1", .vm = test_vm(1), .vm_number = 3, .bar = status->reply->bar}});
  auto started = next();
  ASSERT_TRUE(started && started->reply && !started->reply->error);
  ask({.verb = Request::Verb::kStop,
       .id = 3,
       .stop = StopRequest{.unit = "keeper-1", .timeout_ms = 500}});
  ASSERT_TRUE(supervisor.step(milliseconds(10)).ok());
  daemon->reset();
  ASSERT_TRUE(supervisor.step(milliseconds(10)).ok());
  daemon = supervisor.connect_as_daemon();
  ASSERT_TRUE(daemon.ok());
  for (auto said = next(); said; said = next()) {
    EXPECT_FALSE(said->reply.has_value()) << "an answer to request " << said->reply->id;
  }
}

TEST(Supervisor, each_vm_runs_as_its_own_users) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root";
  constexpr uint32_t kBase = 3'000'000;
  TestSite site(kBase);
  RunningSupervisor running(site, "id -u >&2; id -g >&2; id -G >&2; exec sleep 60");
  StartRequest request = running.keeper(test_vm(1));
  std::string directory = "run/vms/" + test_vm(1).hex();
  request.sockets = {
      {.name = "disk1", .path = directory + "/disk1.nbd"},
      {.name = "control", .path = directory + "/control.sock", .access = SocketAccess::kDaemon}};
  auto started = running.client().start(request, {}, kLimit);
  ASSERT_TRUE(started.ok()) << started.error().describe();
  std::string keeper_id = std::to_string(kBase + 16 + 6);
  EXPECT_TRUE(eventually([&] {
    return site.read("run/log/keeper-1.log") ==
           keeper_id + "\n" + keeper_id + "\n" + keeper_id + "\n";
  })) << site.read("run/log/keeper-1.log");
  struct stat status{};
  ASSERT_EQ(::stat(site.file(directory + "/disk1.nbd").c_str(), &status), 0);
  EXPECT_EQ(status.st_uid, kBase + 16 + 6);
  EXPECT_EQ(status.st_mode & 07777, 0660u);
  ASSERT_EQ(::stat(site.file(directory + "/control.sock").c_str(), &status), 0);
  EXPECT_EQ(status.st_uid, kBase + 1);
  EXPECT_EQ(status.st_mode & 07777, 0600u);
  ASSERT_EQ(::stat(site.file(directory).c_str(), &status), 0);
  EXPECT_EQ(status.st_uid, 0u);
  EXPECT_EQ(status.st_mode & 07777, 0711u);
  ASSERT_EQ(::stat(site.file("vms/" + test_vm(1).hex() + "/journal").c_str(), &status), 0);
  EXPECT_EQ(status.st_uid, kBase + 16 + 6);
  EXPECT_EQ(status.st_mode & 07777, 0700u);
  // QEMU reaches the disk's socket, not the control socket and not the journal.
  auto qemu = running.client().start(
      running.shell(test_vm(1), "id -u >&2; id -g >&2; cd " + site.file(directory) +
                                    "; test -w disk1.nbd && echo disk >&2; test -w control.sock || "
                                    "echo no-control >&2; ls ../../../vms/*/journal 2>/dev/null || "
                                    "echo no-journal >&2; ln -s /x link 2>/dev/null || "
                                    "echo no-link >&2; mv disk1.nbd x 2>/dev/null || "
                                    "echo no-rename >&2; ls 2>/dev/null || echo no-list >&2; "
                                    "tail -n +3 /proc/net/dev | grep -vc lo: >&2"),
      {}, kLimit);
  ASSERT_TRUE(qemu.ok()) << qemu.error().describe();
  Event event = running.wait_for(Event::Kind::kExited, "qemu-1");
  std::string expected = std::to_string(kBase + 17 + 6) + "\n" + keeper_id +
                         "\ndisk\nno-control\nno-journal\nno-link\nno-rename\nno-list\n";
  if (can_empty_network()) {
    EXPECT_EQ(event.stderr_tail, expected + "0\n");
  } else {
    EXPECT_TRUE(event.stderr_tail.starts_with(expected)) << event.stderr_tail;
  }
  // The same user for another VM is refused.
  StartRequest other = running.keeper(test_vm(2), "keeper-2");
  EXPECT_EQ(running.client().start(other, {}, kLimit).error().code, ErrorCode::kConflict);
}

TEST(Supervisor, a_site_of_one_user_is_closed_to_the_others_of_his_group) {
  TestSite site;
  RunningSupervisor running(site, "exec sleep 60");
  StartRequest request = running.keeper(test_vm(1));
  std::string directory = "run/vms/" + test_vm(1).hex();
  request.sockets = {
      {.name = "disk1", .path = directory + "/disk1.nbd"},
      {.name = "control", .path = directory + "/control.sock", .access = SocketAccess::kDaemon}};
  ASSERT_TRUE(running.client().start(request, {}, kLimit).ok());
  for (const std::string& name :
       {directory + "/disk1.nbd", directory + "/control.sock", directory, std::string("run"),
        std::string("run/vms"), std::string("vms"), "vms/" + test_vm(1).hex()}) {
    struct stat status{};
    ASSERT_EQ(::stat(site.file(name).c_str(), &status), 0) << name;
    EXPECT_EQ(status.st_mode & 077, 0u) << name;
  }
}

TEST(Supervisor, qemu_runs_what_the_launcher_makes_of_the_definition) {
  TestSite site;
  RunningSupervisor running(site, "exec sleep 60");
  StartRequest request =
      running.shell(test_vm(1), "echo $LISTEN_FDNAMES in $(pwd) \"$0\" \"$@\" >&2");
  request.machine->definition.guest_agent = true;
  ASSERT_TRUE(running.client().start(request, {}, kLimit).ok());
  std::string said = running.wait_for(Event::Kind::kExited, "qemu-1").stderr_tail;
  std::string run = site.file("run/vms/" + test_vm(1).hex());
  EXPECT_TRUE(said.starts_with("qmp:console:guest-agent in " + run + " -name guest=probe,"))
      << said;
  for (const char* words :
       {"server.path=disk1.nbd", "server.path=vars.nbd", "path=tpm.sock", "socket,id=monitor,fd=3,",
        "socket,id=console,fd=4,", "socket,id=guest-agent,fd=5,", "dump-guest-core=off"}) {
    EXPECT_NE(said.find(words), std::string::npos) << words << " in " << said;
  }
}

TEST(Supervisor, a_fence_ends_all_of_a_vm_and_nothing_queued_starts_after_it) {
  TestSite site;
  RunningSupervisor running(site, "trap '' TERM; echo up >&2; while :; do sleep 0.05; done");
  std::string deaf = "trap '' TERM; echo up >&2; while :; do sleep 0.05; done";
  StartRequest keeper = running.keeper(test_vm(1));
  keeper.restart = RestartPolicy::kAlways;
  StartRequest qemu = running.shell(test_vm(1), deaf);
  StartRequest other = running.keeper(test_vm(2), "keeper-2");
  other.vm_number = 4;
  for (const StartRequest& request : {keeper, qemu, other}) {
    auto started = running.client().start(request, {}, kLimit);
    ASSERT_TRUE(started.ok()) << started.error().describe();
  }
  Bar before = running.bar(test_vm(1));
  auto raised = running.client().fence(test_vm(1), FenceReach::kAll, kLimit);
  ASSERT_TRUE(raised.ok()) << raised.error().describe();
  EXPECT_GT(raised->value, before.value);
  EXPECT_EQ(running.bar(test_vm(1)), *raised);
  auto status = running.client().status(kLimit);
  ASSERT_TRUE(status.ok());
  for (const UnitStatus& unit : status->units) {
    EXPECT_EQ(unit.running, unit.unit == "keeper-2") << unit.unit;
    if (!unit.running) EXPECT_NE(::kill(static_cast<pid_t>(unit.pid), 0), 0) << "it is reaped";
  }
  // What was decided before the fence.
  for (const StartRequest& request : {keeper, qemu}) {
    auto refused = running.client().start(request, {}, kLimit);
    ASSERT_FALSE(refused.ok());
    EXPECT_EQ(refused.error().code, ErrorCode::kConflict);
    EXPECT_NE(refused.error().cause.find("was fenced"), std::string::npos);
  }
  keeper.bar = *raised;
  EXPECT_TRUE(running.client().start(keeper, {}, kLimit).ok()) << "decided after it";
  // Nothing of it need run, and a fence is not undone by another.
  auto none = running.client().fence(test_vm(9), FenceReach::kAll, kLimit);
  ASSERT_TRUE(none.ok());
  EXPECT_GT(none->value, before.value);
  auto twice = running.client().fence(test_vm(1), FenceReach::kAll, kLimit);
  ASSERT_TRUE(twice.ok());
  EXPECT_GT(twice->value, raised->value);
}

TEST(Supervisor, starts_no_daemon_that_would_forget_the_vms_of_a_lost_catalog) {
  TestSite site;
  ::mkdir(site.file("vms").c_str(), 0700);
  ::mkdir(site.file("vms/" + test_vm(1).hex()).c_str(), 0700);
  sys::UniqueFd stop(::eventfd(0, EFD_CLOEXEC));
  SupervisorOptions options;
  options.programs = {.vault = "/bin/false", .daemon = "/bin/true", .link = "/bin/false"};
  options.control_groups = false;
  Supervisor supervisor(std::move(*StateTree::open(site.path())), options, stop.get());
  const Status started = supervisor.start_core();
  ASSERT_FALSE(started.ok());
  EXPECT_NE(started.error().cause.find(test_vm(1).hex()), std::string::npos)
      << started.error().describe();
}

TEST(Supervisor, a_fence_meets_a_unit_that_waits_for_its_restart) {
  TestSite site;
  RunningSupervisor running(site, "exit 1");
  StartRequest keeper = running.keeper(test_vm(1));
  keeper.restart = RestartPolicy::kAlways;
  ASSERT_TRUE(running.client().start(keeper, {}, kLimit).ok());
  // Five quick restarts, then it waits a second.
  ASSERT_TRUE(
      eventually([&] { return running.client().status(kLimit)->units.at(0).restarts == 5; }));
  ASSERT_TRUE(running.client().fence(test_vm(1), FenceReach::kAll, kLimit).ok());
  EXPECT_FALSE(running.client().status(kLimit)->units.at(0).running);
  size_t events = running.event_count();
  ::usleep(1'200'000);
  EXPECT_EQ(running.event_count(), events) << "it does not come back";
}

}  // namespace
}  // namespace hf::launcher
