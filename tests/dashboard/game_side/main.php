<?php
// A game server made of the snippets: what tests/dashboard/test_game_side.py runs.
declare(strict_types=1);

if (PHP_SAPI === 'cli-server') { // php -S: this file is called for each delivery
    require 'webhook.php';
    try {
        $event = verify_delivery($_SERVER, file_get_contents('php://input'));
    } catch (RuntimeException $error) {
        http_response_code(401);
        return;
    }
    file_put_contents('taken', "taken {$event['type']} " . json_encode($event['data']) . "\n", FILE_APPEND | LOCK_EX);
    return;
}

if ($argv[1] === 'entry') {
    require "$argv[2].php";
    echo entry_url($argv[3], $argv[4]), "\n";
    return;
}

require 'feed.php';
$db = new PDO('sqlite:game.db');
$db->exec('CREATE TABLE coinslot_grants (transaction_id TEXT NOT NULL, kind TEXT NOT NULL, document TEXT NOT NULL,
    PRIMARY KEY (transaction_id, kind))');
$db->exec('CREATE TABLE coinslot_cursor (is_it INTEGER PRIMARY KEY CHECK (is_it = 1), after BIGINT NOT NULL)');
$db->exec('INSERT INTO coinslot_cursor VALUES (1, 0)');
while (read_page($db));
$db->exec('UPDATE coinslot_cursor SET after = 0');
while (read_page($db)); // all of it again: nothing new is given
echo "read twice\n";
